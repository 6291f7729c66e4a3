"""The three networks against torch, with the bundled weights."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mer_jax.data.detect import load_mtcnn


@pytest.fixture(scope="module")
def model():
    return load_mtcnn()


def pixels(size, batch=3):
    return np.random.default_rng(0).uniform(-1, 1, (batch, *size, 3)).astype(np.float32)


def tensor(param):
    return torch.from_numpy(np.array(param[...]))


def prelu(layer, x):
    return F.prelu(x, tensor(layer.slope))


def conv(layer, x):
    return F.conv2d(x, tensor(layer.kernel).permute(3, 2, 0, 1), tensor(layer.bias))


def dense(layer, x):
    return F.linear(x, tensor(layer.kernel).T, tensor(layer.bias))


def pool(x, window):
    """Caffe's and facenet-pytorch's pooling: a last, partial window counts."""
    return F.max_pool2d(x, window, 2, ceil_mode=True)


def flatten(x):
    return x.permute(0, 2, 3, 1).flatten(1)


def assert_equal(ours, torchs):
    for a, b in zip(ours, torchs, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-4)


@pytest.mark.parametrize("size", [(12, 12), (30, 44), (31, 45)])
def test_pnet_equals_torch(model, size):
    net, x = model.pnet, pixels(size)
    y = torch.from_numpy(x).permute(0, 3, 1, 2)
    y = pool(prelu(net.prelu1, conv(net.conv1, y)), 2)
    y = prelu(net.prelu3, conv(net.conv3, prelu(net.prelu2, conv(net.conv2, y))))
    assert_equal(net(x), (conv(net.face, y).softmax(1)[:, 1], conv(net.box, y).permute(0, 2, 3, 1)))


def test_rnet_equals_torch(model):
    net, x = model.rnet, pixels((24, 24))
    y = torch.from_numpy(x).permute(0, 3, 1, 2)
    y = pool(prelu(net.prelu1, conv(net.conv1, y)), 3)
    y = pool(prelu(net.prelu2, conv(net.conv2, y)), 3)
    y = flatten(prelu(net.prelu3, conv(net.conv3, y)))
    y = prelu(net.prelu4, dense(net.dense, y))
    assert_equal(net(x), (dense(net.face, y).softmax(1)[:, 1], dense(net.box, y)))


def test_onet_equals_torch(model):
    net, x = model.onet, pixels((48, 48))
    y = torch.from_numpy(x).permute(0, 3, 1, 2)
    y = pool(prelu(net.prelu1, conv(net.conv1, y)), 3)
    y = pool(prelu(net.prelu2, conv(net.conv2, y)), 3)
    y = pool(prelu(net.prelu3, conv(net.conv3, y)), 2)
    y = flatten(prelu(net.prelu4, conv(net.conv4, y)))
    y = prelu(net.prelu5, dense(net.dense, y))
    assert_equal(net(x), (dense(net.face, y).softmax(1)[:, 1], dense(net.box, y), dense(net.landmarks, y)))
