"""The three networks and the whole cascade against torch, with the bundled weights."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from mer_jax.data.detect import FaceDetector, load_mtcnn
from mer_jax.data.faces import fit
from mer_jax.data.media import Block
from tests.data.test_detect import PLACES, draw_face
from tests.models.torch_mtcnn import TorchMTCNN


@pytest.fixture(scope="module")
def model():
    return load_mtcnn()


@pytest.fixture(scope="module")
def reference():
    return TorchMTCNN()


def pixels(size, batch=3):
    return np.random.default_rng(0).uniform(-1, 1, (batch, *size, 3)).astype(np.float32)


def assert_equal(ours, torchs):
    for a, b in zip(ours, torchs, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("net", "size"),
    [("pnet", (12, 12)), ("pnet", (30, 44)), ("rnet", (24, 24)), ("onet", (48, 48))],
)
def test_nets_equal_torch(model, reference, net, size):
    x = pixels(size)
    assert_equal(getattr(model, net)(jnp.asarray(x)), getattr(reference, net)(torch.from_numpy(x).permute(0, 3, 1, 2)))


def test_the_cascade_equals_torch(reference):
    two = np.concatenate([draw_face(80, 90, 0.8)[:, :160], draw_face(240, 90, 0.7)[:, 160:]], axis=1)
    drawn = np.stack([*(draw_face(*place) for place in PLACES), two, np.full_like(two, 90)])
    frames, _ = fit(Block.of(drawn))
    ours = FaceDetector(batch_size=4).find(frames)
    assert [len(found.scores) for found in ours] == [1, 1, 1, 1, 1, 2, 0]
    for found, (boxes, scores, landmarks) in zip(ours, reference.detect(frames), strict=True):
        np.testing.assert_allclose(found.boxes + 0.5, boxes, atol=0.01)  # px; 0.5 is asked for
        np.testing.assert_allclose(found.landmarks + 0.5, landmarks, atol=0.01)
        np.testing.assert_allclose(found.scores, scores, atol=1e-4)
