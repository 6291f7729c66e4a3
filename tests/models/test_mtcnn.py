"""The three networks and the whole cascade against torch, with the bundled weights."""

import jax.numpy as jnp
import numpy as np
import pytest

from mer_jax.data.detect import FaceDetector, load_mtcnn
from mer_jax.data.faces import fit
from mer_jax.data.media import Block
from tests.data.test_detect import PLACES, draw_face


@pytest.fixture(scope="module")
def model():
    return load_mtcnn()


def pixels(size, batch=3):
    return np.random.default_rng(0).uniform(-1, 1, (batch, *size, 3)).astype(np.float32)


OUTPUTS = {"pnet": ("face", "box"), "rnet": ("face", "box"), "onet": ("face", "box", "landmarks")}


def torch_outputs(net, x):
    import torch

    from tests.models.torch_mtcnn import TorchMTCNN

    return dict(zip(OUTPUTS[net], getattr(TorchMTCNN(), net)(torch.from_numpy(x).permute(0, 3, 1, 2)), strict=True))


@pytest.mark.parametrize(
    ("net", "size"), [("pnet", (12, 12)), ("pnet", (30, 44)), ("rnet", (24, 24)), ("onet", (48, 48))]
)
def test_nets_equal_torch(model, oracle, net, size):
    x = pixels(size)
    expected = oracle(f"mtcnn/{net}_{size[0]}", lambda: torch_outputs(net, x))
    for output, ours in zip(OUTPUTS[net], getattr(model, net)(jnp.asarray(x)), strict=True):
        np.testing.assert_allclose(ours, expected[output], atol=1e-4)


def torch_faces(frames):
    """Of each frame the boxes [n, 4], scores [n] and landmarks [n, 5, 2], under keys such as `0.boxes`."""
    from tests.models.torch_mtcnn import TorchMTCNN

    fields = ("boxes", "scores", "landmarks")
    frames = enumerate(TorchMTCNN().detect(frames))
    return {f"{i}.{field}": value for i, faces in frames for field, value in zip(fields, faces, strict=True)}


def test_the_cascade_equals_torch(oracle):
    two = np.concatenate([draw_face(80, 90, 0.8)[:, :160], draw_face(240, 90, 0.7)[:, 160:]], axis=1)
    drawn = np.stack([*(draw_face(*place) for place in PLACES), two, np.full_like(two, 90)])
    frames, _ = fit(Block.of(drawn))
    ours = FaceDetector(batch_size=4).find(frames)
    assert [len(faces.scores) for faces in ours] == [1, 1, 1, 1, 1, 2, 0]
    expected = oracle("mtcnn/cascade", lambda: torch_faces(frames), tolerance=5e-5)
    for i, faces in enumerate(ours):
        np.testing.assert_allclose(faces.boxes + 0.5, expected[f"{i}.boxes"], atol=0.01)  # px; 0.5 is asked for
        np.testing.assert_allclose(faces.landmarks + 0.5, expected[f"{i}.landmarks"], atol=0.01)
        np.testing.assert_allclose(faces.scores, expected[f"{i}.scores"], atol=1e-4)
