"""Ready-made features: pooled or frames, and every way in which a file can be wrong."""

import numpy as np

from mer_jax.data.clips import Clip
from mer_jax.features.ready_made import ready_made


def test_ready_made_features(tmp_path):
    def clip(name, array):
        path = tmp_path / f"{name}.npy"
        np.save(path, array)
        return Clip(name, "train", features={"speech": path})

    clips = [
        clip("flat", np.arange(4.0)),
        clip("frames", np.array([[0.0, 2.0], [4.0, 2.0]])),
        clip("narrow", np.zeros(3)),
        clip("infinite", np.array([np.inf, 0, 0, 0])),
        Clip("missing", "train"),
        clip("objects", np.array([{}], object)),
    ]
    embeddings, reasons = ready_made(clips, "speech")
    np.testing.assert_array_equal(embeddings[:2], [[0, 1, 2, 3], [2, 2, 4, 0]])
    assert sorted(reasons) == [2, 3, 4, 5] and not embeddings[2:].any()
    assert "wide" in reasons[2] and "finite" in reasons[3] and "cannot be read" in reasons[5]
