"""Faces as the image branch sees them: the main face of each frame, aligned the way OpenFace aligns it.

Pixel coordinates are (x, y) with pixel centres at integers. Nothing here imports JAX: the frames stay in the
process that decodes them, and it asks for detections (mer_jax/data/workers.py).
"""

import io
from collections.abc import Generator, Iterable
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image

from mer_jax.data.clips import Clip
from mer_jax.data.decoding import media_of
from mer_jax.data.media import Block, at_most, frame_blocks

# Left eye, right eye, nose tip, left and right mouth corner of OpenFace's mean face: x, y of the mean shape
# in its In-the-wild_aligned_PDM_68 model, in the model's units, y down. An eye is the mean of its six contour
# points (36-41, 42-47), the others are points 30, 48 and 54. OpenFace (Face_utils.cpp, `AlignFace`) fits the
# landmarks to `sim_scale` times this shape and puts the shape's origin in the middle of the crop.
MEAN_FACE = np.array(
    [(-32.935, -38.287), (32.788, -38.765), (1.227, -8.415), (-28.916, 28.613), (28.794, 28.080)], np.float64
)
FACE_SIZE = 128  # pixels of a crop
LONG_SIDE = 320  # pixels; frames are resized to this for detection
SHORT_SIDES = (192, 256, 320)  # and padded to one of these: 16:9, 4:3, square
UNITS_ACROSS = 160.0  # width of a crop: 112 px / scale 0.7 (OpenFace's default) = 128 px / scale 0.8


def similarity(landmarks: np.ndarray, size: int) -> np.ndarray:
    """The 2x3 matrix that takes pixels of a frame to those of a `size` x `size` crop.

    It is the least-squares similarity (rotation, scale, shift; no reflection) of the landmarks [5, 2], see `Faces`,
    onto the mean face (Umeyama 1991), which in the plane is the complex regression `w = a z + b`.
    """
    z = np.asarray(landmarks, np.float64) @ (1, 1j)
    w = (MEAN_FACE * size / UNITS_ACROSS + size / 2) @ (1, 1j)
    centred = z - z.mean()
    a = np.vdot(centred, w) / np.vdot(centred, centred)
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align(frame: np.ndarray, landmarks: np.ndarray, size: int = FACE_SIZE) -> np.ndarray:
    """Cuts an upright face (see `similarity`) out of a frame, bilinear, black where the frame ends.

    uint8 [H, W, 3] -> uint8 [size, size, 3].
    """
    to_frame = np.linalg.inv(np.vstack([similarity(landmarks, size), (0, 0, 1)]))[:2]
    corners = to_frame @ [(0, size, 0, size), (0, 0, size, size), (1, 1, 1, 1)]
    height, width, _ = frame.shape
    low = np.clip(corners.min(axis=1).astype(int) - 2, 0, (width - 1, height - 1))
    high = np.maximum(corners.max(axis=1).astype(int) + 2, low + 1)
    part = frame[low[1] : high[1], low[0] : high[0]]  # all that the crop shows: Pillow copies what it is given
    to_frame[:, 2] += 0.5 - to_frame[:, :2].sum(axis=1) / 2 - low  # Pillow's pixel centres are at halves
    crop = Image.fromarray(part).transform(
        (size, size), Image.Transform.AFFINE, tuple(to_frame.ravel()), Image.Resampling.BILINEAR
    )
    return np.asarray(crop)


def to_jpeg(image: np.ndarray, short_side: int = 0, quality: int = 95) -> bytes:
    """uint8 RGB [H, W, 3] -> a JPEG file without chroma subsampling; shrunk to `short_side` where that is given."""
    picture = Image.fromarray(image)
    scale = short_side / min(picture.size)
    if 0 < scale < 1:
        size = tuple(max(short_side, round(side * scale)) for side in picture.size)
        picture = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


class Faces(NamedTuple):
    """The n faces of one frame, best first; pixels of that frame."""

    boxes: np.ndarray  # [n, 4] float32 x1, y1, x2, y2
    scores: np.ndarray  # [n] float32
    landmarks: np.ndarray  # [n, 5, 2] float32: eyes, nose tip, mouth corners; of a pair first that of the smaller x


class MainFace:
    """Follows one face through a clip: the largest first, then always the nearest to where it was last seen.

    A face further away than the main face is large, for every frame since it was last seen, is somebody else's.
    """

    def __init__(self) -> None:
        self.centre = np.zeros(2)
        self.reach = np.inf  # pixels
        self.unseen = 1  # frames

    def choose(self, boxes: np.ndarray) -> int | None:
        """Index of the main face among the boxes [n, 4] (x1, y1, x2, y2) of the next frame, None if it is not there."""
        if len(boxes):
            sides = boxes[:, 2:] - boxes[:, :2]
            centres = boxes[:, :2] + sides / 2
            distances = np.hypot(*(centres - self.centre).T)
            main = int(np.prod(sides, axis=1).argmax() if np.isinf(self.reach) else distances.argmin())
            if distances[main] <= self.reach * self.unseen:
                self.centre, self.reach, self.unseen = centres[main], float(sides[main].max()), 1
                return main
        self.unseen += 1
        return None


def fit(block: Block) -> tuple[np.ndarray, np.ndarray]:
    """Brings frames to one of few sizes, so that the detector is compiled at most once for each.

    Returns:
        uint8 RGB [T, h, w, 3], grey at the right or below, and (x, y) frame pixels per pixel of these.
    """
    sides = np.array([block.width, block.height])
    width, height = (max(1, round(side)) for side in sides * (LONG_SIDE / sides.max()))
    across, down = (LONG_SIDE if n == LONG_SIDE else min(s for s in SHORT_SIDES if s >= n) for n in (width, height))
    fitted = np.full((len(block.pictures), down, across, 3), 127, np.uint8)
    fitted[:, :height, :width] = block.resized(width, height)
    return fitted, (sides / (width, height)).astype(np.float32)


def unfit(faces: Faces, to_frame: np.ndarray) -> Faces:
    """Faces in a fitted frame -> faces in the frame itself."""
    boxes = (faces.boxes.reshape(-1, 2, 2) + 0.5) * to_frame - 0.5
    return Faces(boxes.reshape(-1, 4), faces.scores, (faces.landmarks + 0.5) * to_frame - 0.5)


def crop_main_face(blocks: Iterable[Block], size: int) -> Generator[np.ndarray, list[Faces], tuple[np.ndarray, int]]:
    """Cuts a clip's main face out of its frames, a block at a time.

    Yields:
        Fitted frames (see `fit`), and is to be sent one `Faces` for each.

    Returns:
        Aligned crops uint8 [N, size, size, 3], and the number of frames without that face, which give none.
    """
    main_face, crops, missing = MainFace(), [], 0
    for block in blocks:
        fitted, to_frame = fit(block)
        for index, fitted_faces in enumerate((yield fitted)):
            faces = unfit(fitted_faces, to_frame)
            main = main_face.choose(faces.boxes)
            if main is None:
                missing += 1
            else:
                crops.append(align(block.frames[index], faces.landmarks[main], size))
    return np.array(crops, np.uint8).reshape(-1, size, size, 3), missing


def crop_clip(clip: Clip, size: int, most_frames: int) -> Generator[np.ndarray, list[Faces], tuple[np.ndarray, int]]:
    """`crop_main_face` of a clip's frames; every second, third, ... one where there are more than `most_frames`."""
    return (yield from crop_main_face(frame_blocks(media_of(clip), partial(at_most, most_frames)), size))
