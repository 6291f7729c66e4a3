"""Faces as the image branch sees them: the main face of each frame, aligned the way OpenFace aligns it.

Pixel coordinates are (x, y) with pixel centres at integers. Needs only numpy and Pillow: the sample's workers
import this.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

# Left eye, right eye, nose tip, left and right mouth corner of OpenFace's mean face: x, y of the mean shape
# in its In-the-wild_aligned_PDM_68 model, in the model's units, y down. An eye is the mean of its six contour
# points (36-41, 42-47), the others are points 30, 48 and 54. OpenFace (Face_utils.cpp, `AlignFace`) fits the
# landmarks to `sim_scale` times this shape and puts the shape's origin in the middle of the crop.
MEAN_FACE = np.array(
    [(-32.935, -38.287), (32.788, -38.765), (1.227, -8.415), (-28.916, 28.613), (28.794, 28.080)], np.float64
)
UNITS_ACROSS = 160.0  # width of a crop: 112 px / scale 0.7 (OpenFace's default) = 128 px / scale 0.8


def similarity(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Returns the 2x3 matrix that takes frame pixels to pixels of a `size` x `size` crop.

    It is the least-squares similarity (rotation, scale, shift; no reflection) of the five points onto the
    mean face (Umeyama 1991), which in the plane is the complex regression `w = a z + b`.

    Args:
      landmarks: [5, 2] left eye, right eye, nose, left and right mouth corner; left is the smaller x.
      size: width and height of the crop in pixels.
    """
    z = np.asarray(landmarks, np.float64) @ (1, 1j)
    w = (MEAN_FACE * size / UNITS_ACROSS + size / 2) @ (1, 1j)
    centred = z - z.mean()
    a = np.vdot(centred, w) / np.vdot(centred, centred)
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align(frame: np.ndarray, landmarks: np.ndarray, size: int = 128) -> np.ndarray:
    """Cuts an upright face out of a frame, bilinear, black where the frame ends.

    Args:
      frame: uint8 [H, W, 3].
      landmarks, size: as for `similarity`.

    Returns:
      uint8 [size, size, 3].
    """
    to_frame = np.linalg.inv(np.vstack([similarity(landmarks, size), (0, 0, 1)]))[:2]
    to_frame[:, 2] += 0.5 - to_frame[:, :2].sum(axis=1) / 2  # Pillow's pixel centres are at halves
    crop = Image.fromarray(frame).transform(
        (size, size), Image.Transform.AFFINE, tuple(to_frame.ravel()), Image.Resampling.BILINEAR
    )
    return np.asarray(crop)


def track_main_face(boxes: Sequence[np.ndarray]) -> Iterator[int | None]:
    """Follows one face through a clip: the largest first, then always the nearest to where it was last seen.

    Args:
      boxes: per frame [n, 4] (x1, y1, x2, y2), n may be 0.

    Yields:
      Per frame the index of the main face, or None where there is no face.
    """
    last = None
    for frame_boxes in boxes:
        if not len(frame_boxes):
            yield None
            continue
        top_left, bottom_right = frame_boxes[:, :2], frame_boxes[:, 2:]
        centres = (top_left + bottom_right) / 2
        if last is None:
            main = int(np.prod(bottom_right - top_left, axis=1).argmax())
        else:
            main = int(np.square(centres - last).sum(axis=1).argmin())
        last = centres[main]
        yield main
