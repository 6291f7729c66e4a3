"""A clip's sound, frames and face crops, wherever they come from: media files, crops on disk, or prepared records.

Nothing here imports JAX, so that worker processes start fast (mer_jax/data/workers.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import MAGIC_PREFIX
from PIL import Image

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.media import read_frames, read_sound
from mer_jax.runtime.settings import setting

IMAGE_SUFFIXES = (".bmp", ".jpg", ".png")


@dataclass(frozen=True)
class ExtractionSettings:
    """How clips are decoded, and features written: `config.extraction`."""

    shard_clips: int = setting(1024, least=1)  # features written at a time, for each copy of an encoder's weights
    workers: int = setting(0, least=0)  # processes that decode; 0: one per core
    time_limit: float = setting(60.0, least=0)  # seconds that a clip may take, and one more for each MiB of its file
    most_face_frames: int = setting(4096, least=1)  # of a longer clip every second, third, ... frame is searched
    # Every so manyth frame, of 16, is searched for all faces, those between for faces as large as there, and for all
    # where they are not there any more. 1: all frames for all faces. 0: 16 on a CPU, else 1.
    face_stride: int = setting(0, least=0)


def time_limit(clip: Clip, seconds: float) -> float:
    """Seconds after which decoding a clip is given up: `seconds`, and one more for each MiB of its file."""
    return seconds + (clip.media.stat().st_size / 2**20 if clip.media and clip.media.exists() else 0.0)


def identity(path: Path | None) -> str:
    """Names a file's content cheaply: name, size and time of the last change."""
    if path is None or not path.exists():
        return "none"
    stat = path.stat()
    return f"{path.name}|{stat.st_size}|{stat.st_mtime_ns}"


def media_of(clip: Clip) -> Path:
    """The clip's media file. Raises Absent where it has none."""
    if clip.media is None:
        raise Absent("row without a clip")
    return clip.media


def clip_sound(clip: Clip, sample_rate: int) -> np.ndarray:
    """Mono int16 [S] at `sample_rate` Hz."""
    waveform = clip.prepared.sound(sample_rate) if clip.prepared else read_sound(media_of(clip), sample_rate)
    return clip.corruption.sound(waveform) if clip.corruption else waveform


def clip_frames(clip: Clip, choose: Callable[[int], np.ndarray]) -> np.ndarray:
    """Chosen whole frames, uint8 RGB [T, H, W, 3]. choose: see media.choose_frames."""
    frames = clip.prepared.frames(choose) if clip.prepared else read_frames(media_of(clip), choose)
    return clip.corruption.frames(frames, "video") if clip.corruption else frames


def clip_faces(clip: Clip) -> np.ndarray:
    """Aligned crops of the main face, uint8 RGB [T, H, W, 3], T > 0."""
    if clip.prepared:
        crops = clip.prepared.faces()
    elif clip.faces is None:
        raise Absent(clip.no_faces if clip.media else "row without a clip")
    elif clip.faces.is_dir():
        crops = read_images(clip.faces)
    else:
        crops = with_face(np.array(mapped_crops(clip.faces))[..., ::-1])  # RGB
    if not len(crops):
        raise Absent("no face")
    return clip.corruption.frames(crops, "image") if clip.corruption else crops


def mapped_array(path: Path) -> np.ndarray:
    """The array of a .npy file, mapped: a damaged header may claim any size. Absent, whatever is wrong with it."""
    try:
        with open(path, "rb") as file:
            if file.read(len(MAGIC_PREFIX)) != MAGIC_PREFIX:
                raise ValueError("not a .npy array")
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy's header parser raises almost anything
        raise Absent(f"{path.name} cannot be read: {str(error) or type(error).__name__}") from error


def mapped_crops(path: Path) -> np.ndarray:
    """The baseline's crops, uint8 BGR [T, H, W, 3] in a .npy file, mapped."""
    crops = mapped_array(path)
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[-1] != 3:
        raise Absent(f"face crops are {crops.dtype} {list(crops.shape)}, expected uint8 [T, H, W, 3]")
    return crops


def with_face(crops: np.ndarray) -> np.ndarray:
    """Crops [T, H, W, 3] without those that are black, which OpenFace writes where it has lost the face."""
    return crops[crops.any(axis=(1, 2, 3))]


def read_images(folder: Path) -> np.ndarray:
    """OpenFace's folder of aligned images, `frame_det_00_000001.bmp`, ...: those of its first face."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    faces = sorted({path.stem.rpartition("_")[0] for path in paths})
    try:
        images = [np.asarray(Image.open(p).convert("RGB")) for p in paths if p.stem.rpartition("_")[0] == faces[0]]
        return with_face(np.stack(images)) if images else np.zeros((0, 1, 1, 3), np.uint8)
    except Exception as error:  # Pillow's decoders raise more than OSError
        raise Absent(f"face images cannot be read: {str(error) or type(error).__name__}") from error
