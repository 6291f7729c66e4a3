"""Finds the faces in frames: the bundled MTCNN on the device, a batch of fixed shape at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from mer_jax.models.face_cascade import NOWHERE, cascade, first_level
from mer_jax.models.mtcnn import MTCNN
from mer_jax.runtime.profiling import step

KEY_STRIDE = 16  # on a CPU; elsewhere a call's time hardly depends on what is searched
GLANCE = 4  # every so manyth frame is searched after a key frame without a face
SAME_PLACE = 0.5  # least intersection / union of a face's boxes in frames that follow each other
LEAST_SIDE = 0.95  # of the smallest face for which the levels were chosen


class FaceDetector:
    """MTCNN with the bundled weights.

    Key frames are searched for all faces, the others first for faces as large as those of their key frame, which
    leaves most of the work out and finds the same landmarks (see `first_level`). A frame whose faces are not those of
    the frame before is searched for all. A smaller face that joins them is not found before the next key frame. After
    a key frame without a face every `GLANCE`th frame is searched, and all between two of which either has one.

    Args:
        stride: every so manyth of the frames that are given together is a key frame; 0: `KEY_STRIDE` on a CPU, else 1.
        batch_size: frames that go through the cascade at once; the last batch is padded. By default 16, but 8 on a
            CPU, where the larger part of the work is done a frame at a time anyway.
    """

    def __init__(self, stride: int = 0, batch_size: int = 0):
        on_cpu = jax.default_backend() == "cpu"
        self.stride = stride or (KEY_STRIDE if on_cpu else 1)
        self.batch_size = batch_size or (8 if on_cpu else 16)
        self.cascade = mtcnn_cascade()

    def find(self, fitted: np.ndarray) -> list[Faces]:
        """The faces in frames that `fit` has made, uint8 RGB [T, h, w, 3], in their order; one `Faces` per frame."""
        key_of = [i - i % self.stride for i in range(len(fitted))]
        keys = self.search(fitted, dict.fromkeys(key_of, 0))
        levels = {i: first_level(smallest_side(keys[key])) for i, key in enumerate(key_of)}
        coarse = self.search(fitted, {i: level for i, level in levels.items() if level and i not in keys})
        faces, last = keys | self.glances(fitted, key_of, keys), keys[0]
        for i in range(len(fitted)):
            large = i in coarse and first_level(smallest_side(coarse[i]) / LEAST_SIDE) >= levels[i]
            if large and same_faces(last, coarse[i]):
                faces[i] = coarse[i]
            last = faces.get(i, last)
        faces |= self.search(fitted, {i: 0 for i in levels if i not in faces})
        return [faces[i] for i in range(len(fitted))]

    def glances(self, fitted: np.ndarray, key_of: list[int], keys: Mapping[int, Faces]) -> dict[int, Faces]:
        """Of frames whose key frame has no face: those that are searched, and those between two without a face.

        fitted, key_of, keys: as in `find`.
        """
        bare = {i for i, key in enumerate(key_of) if not len(keys[key].scores)} - keys.keys()
        near = {i: 0 for i in sorted(bare) if (i - key_of[i]) % GLANCE == 0 or i + 1 == len(fitted)}
        faces = self.search(fitted, near)
        known = {**keys, **faces}
        for i in bare - near.keys():
            before = max(number for number in known if number < i)
            after = min(number for number in known if number > i)
            if not len(known[before].scores) + len(known[after].scores):
                faces[i] = known[before]
        return faces

    def search(self, fitted: np.ndarray, first: Mapping[int, int]) -> dict[int, Faces]:
        """The faces in some frames, each searched from a level of its pyramid on: frame -> its faces.

        first: frame -> that level, see `cascade`.
        """
        faces = {}
        numbers = list(first)
        for start in range(0, len(numbers), self.batch_size):
            chunk = numbers[start : start + self.batch_size]
            batch = np.full((self.batch_size, *fitted.shape[1:]), 127, np.uint8)
            batch[: len(chunk)] = fitted[chunk]
            levels = np.full(self.batch_size, NOWHERE, np.int32)
            levels[: len(chunk)] = [first[number] for number in chunk]
            boxes, scores, landmarks = map(np.asarray, step("faces", start, self.cascade, batch, levels))
            for i, number in enumerate(chunk):
                is_face = scores[i] > 0
                # The cascade's pixel i covers [i, i + 1).
                faces[number] = Faces(boxes[i, is_face] - 0.5, scores[i, is_face], landmarks[i, is_face] - 0.5)
        return faces


def smallest_side(faces: Faces) -> float:
    """Pixels of the smallest face's side, that of a square of its area; 0 where there is no face."""
    return min((float(np.sqrt(x * y)) for x, y in faces.boxes[:, 2:] - faces.boxes[:, :2]), default=0.0)


def same_faces(before: Faces, after: Faces) -> bool:
    """Whether each face of a frame has its one in the next frame, about where it was."""
    a, b = before.boxes[:, None], after.boxes
    width, height = (np.minimum(a[..., i + 2], b[..., i + 2]) - np.maximum(a[..., i], b[..., i]) for i in (0, 1))
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    areas = [(x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1]) for x in (a, b)]
    pairs = shared > SAME_PLACE * (areas[0] + areas[1] - shared)  # [before, after]
    return bool(pairs.sum() == len(a) == len(b) and pairs.any(axis=0).all() and pairs.any(axis=1).all())


def map_with_detector(job: Callable[[Clip], Any], clips: Sequence[Clip], settings: ExtractionSettings) -> Iterator[Any]:
    """`map_in_workers` of a job such as `crop_clip`, which asks for the faces in frames that `fit` has made."""
    limit = settings.time_limit
    count, find = settings.workers, FaceDetector(settings.face_stride).find
    return map_in_workers(job, clips, lambda clip: time_limit(clip, limit), count=count, answer=find)


@cache
def mtcnn_cascade() -> Callable[[np.ndarray, np.ndarray], tuple[jax.Array, jax.Array, jax.Array]]:
    """`cascade` of the bundled weights, which the program holds: to pass them costs a CPU as much as a convolution."""
    return jax.jit(partial(cascade, load_mtcnn()))


def load_mtcnn() -> MTCNN:
    """The bundled weights (made by pretrain/convert_mtcnn.py)."""
    graph, state = nnx.split(nnx.eval_shape(lambda: MTCNN(rngs=nnx.Rngs(0))))
    tensors = load((resources.files("mer_jax") / "assets/mtcnn/model.safetensors").read_bytes())
    weights = nnx.map_state(lambda path, leaf: leaf.replace(jnp.asarray(tensors[".".join(map(str, path))])), state)
    return nnx.merge(graph, weights)
