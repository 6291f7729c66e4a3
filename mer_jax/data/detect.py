"""Finds the faces in frames of any size, and cuts a clip's main face out of them.

Frames are brought to one of a few sizes, so that the detector is compiled at most once for each.
"""

from importlib import resources
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image
from safetensors.numpy import load

from mer_jax.data.faces import align, track_main_face
from mer_jax.models.face_cascade import cascade
from mer_jax.models.mtcnn import MTCNN

LONG_SIDE = 320  # frames are resized to this
SHORT_SIDES = (192, 256, 320)  # and padded to one of these: 16:9, 4:3, square


class Faces(NamedTuple):
    """The n faces of one frame, best first; pixels of the original frame, centres at integers."""

    boxes: np.ndarray  # [n, 4] float32 x1, y1, x2, y2
    scores: np.ndarray  # [n] float32
    landmarks: np.ndarray  # [n, 5, 2] float32 left eye, right eye, nose, left and right mouth corner


class FaceDetector:
    """MTCNN with the bundled weights.

    Args:
      batch_size: frames that go through the cascade at once; the last batch is padded.
    """

    def __init__(self, batch_size: int = 16):
        self.batch_size = batch_size
        self.model = load_mtcnn()

    def detect(self, frames: np.ndarray) -> list[Faces]:
        """Finds all faces in frames of one size, uint8 RGB [T, H, W, 3]; one `Faces` per frame."""
        height, width = frames.shape[1:3]
        scale = LONG_SIDE / max(height, width)
        small = max(1, round(width * scale)), max(1, round(height * scale))
        padded = [LONG_SIDE if n == LONG_SIDE else min(s for s in SHORT_SIDES if s >= n) for n in small]
        to_frame = np.array([width / small[0], height / small[1]], np.float32)
        faces = []
        for start in range(0, len(frames), self.batch_size):
            chunk = frames[start : start + self.batch_size]
            batch = np.full((self.batch_size, padded[1], padded[0], 3), 127, np.uint8)
            for target, frame in zip(batch, chunk, strict=False):
                resized = Image.fromarray(frame).resize(small, Image.Resampling.BILINEAR)
                target[: small[1], : small[0]] = np.asarray(resized)
            boxes, scores, landmarks = map(np.asarray, cascade(self.model, batch))
            for i in range(len(chunk)):
                found = scores[i] > 0
                corners = boxes[i, found].reshape(-1, 2, 2)
                faces.append(
                    Faces(
                        (corners * to_frame - 0.5).reshape(-1, 4),
                        scores[i, found],
                        landmarks[i, found] * to_frame - 0.5,
                    )
                )
        return faces

    def crop_faces(self, frames: np.ndarray, size: int = 128) -> tuple[np.ndarray, int]:
        """Aligned crops of the clip's main face: uint8 [T, H, W, 3] -> (uint8 [T', size, size, 3], T - T').

        Frames without a face are dropped and counted.
        """
        faces = self.detect(frames)
        main = track_main_face([f.boxes for f in faces])
        crops = [
            align(frame, f.landmarks[i], size) for frame, f, i in zip(frames, faces, main, strict=True) if i is not None
        ]
        return np.array(crops, np.uint8).reshape(-1, size, size, 3), len(frames) - len(crops)


def load_mtcnn() -> MTCNN:
    """The bundled weights (made by pretrain/convert_mtcnn.py)."""
    graph, state = nnx.split(nnx.eval_shape(lambda: MTCNN(rngs=nnx.Rngs(0))))
    tensors = load((resources.files("mer_jax") / "assets/mtcnn/model.safetensors").read_bytes())
    flat = [
        (path, leaf.replace(jnp.asarray(tensors[".".join(map(str, path))]))) for path, leaf in nnx.to_flat_state(state)
    ]
    return nnx.merge(graph, nnx.from_flat_state(flat))
