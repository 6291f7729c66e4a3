"""Finds the faces in frames: the bundled MTCNN on the device, a batch of fixed shape at a time."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib import resources
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import load

from mer_jax.data.clips import Clip
from mer_jax.data.decoding import ExtractionSettings, time_limit
from mer_jax.data.faces import Faces
from mer_jax.data.workers import map_in_workers
from mer_jax.models.face_cascade import cascade
from mer_jax.models.mtcnn import MTCNN


class FaceDetector:
    """MTCNN with the bundled weights.

    batch_size: frames that go through the cascade at once; the last batch is padded. By default 16, but 4 on a CPU,
    where the larger part of the work is done a frame at a time anyway.
    """

    def __init__(self, batch_size: int = 0):
        self.batch_size = batch_size or (4 if jax.default_backend() == "cpu" else 16)
        self.cascade = mtcnn_cascade()

    def find(self, fitted: np.ndarray) -> list[Faces]:
        """The faces in frames that `fit` has made, uint8 RGB [T, h, w, 3]; one `Faces` per frame."""
        faces = []
        for start in range(0, len(fitted), self.batch_size):
            chunk = fitted[start : start + self.batch_size]
            batch = np.full((self.batch_size, *fitted.shape[1:]), 127, np.uint8)
            batch[: len(chunk)] = chunk
            boxes, scores, landmarks = map(np.asarray, self.cascade(batch))
            for i in range(len(chunk)):
                is_face = scores[i] > 0
                # The cascade's pixel i covers [i, i + 1).
                faces.append(Faces(boxes[i, is_face] - 0.5, scores[i, is_face], landmarks[i, is_face] - 0.5))
        return faces


def map_with_detector(job: Callable[[Clip], Any], clips: Sequence[Clip], settings: ExtractionSettings) -> Iterator[Any]:
    """`map_in_workers` of a job such as `crop_clip`, which asks for the faces in frames that `fit` has made."""
    limit = settings.time_limit
    count, find = settings.workers, FaceDetector().find
    return map_in_workers(job, clips, lambda clip: time_limit(clip, limit), count=count, answer=find)


@cache
def mtcnn_cascade() -> Callable[[np.ndarray], tuple[jax.Array, jax.Array, jax.Array]]:
    """`cascade` of the bundled weights, which the program holds: to pass them costs a CPU as much as a convolution."""
    return jax.jit(partial(cascade, load_mtcnn()))


def load_mtcnn() -> MTCNN:
    """The bundled weights (made by pretrain/convert_mtcnn.py)."""
    graph, state = nnx.split(nnx.eval_shape(lambda: MTCNN(rngs=nnx.Rngs(0))))
    tensors = load((resources.files("mer_jax") / "assets/mtcnn/model.safetensors").read_bytes())
    weights = nnx.map_state(lambda path, leaf: leaf.replace(jnp.asarray(tensors[".".join(map(str, path))])), state)
    return nnx.merge(graph, weights)
