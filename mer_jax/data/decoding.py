"""A clip's sound, frames and face crops, wherever they come from: media files, crops on disk, or prepared records.

Nothing here imports JAX, so that worker processes start fast (mer_jax/data/workers.py).
"""

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO

import numpy as np
from numpy.lib.format import MAGIC_PREFIX
from PIL import Image, ImageOps

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.kept_crops import check_crops
from mer_jax.data.media import read_frames, read_sound
from mer_jax.runtime.files import of_the_system, open_regular, printable
from mer_jax.runtime.settings import setting

IMAGE_SUFFIXES = frozenset((
    ".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm",
    ".tif", ".tiff", ".webp",
))  # fmt: skip
ONE_AT_A_TIME = Lock()  # Python's parser, by which numpy reads headers, fails at random where threads share it (3.11)
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # of images: EPS would run code
MOST_BYTES = 2**29  # of one clip's crops or ready-made feature: a header may claim any size
LARGEST_SIDE = 3840  # px of an image
OPENFACE = re.compile(r"_det_(\d+)_")  # frame_det_00_000001: face 0 of frame 1
SAID = re.compile(r"(?<![a-z])(?:face|person|track|id)[ _.-]*(\d+)", re.IGNORECASE)  # frame-1-face-0, person1_frame1
COUNTED = re.compile(r"(?<=\d)_(0|[1-9]\d*)$")  # frame0001_0
COUNTED_NAME = re.compile(r"(?:frame_?)?\d+_\d+", re.IGNORECASE)


@dataclass(frozen=True)
class ExtractionSettings:
    """How clips are decoded, and features written: `config.extraction`."""

    shard_clips: int = setting(1024, least=1)  # features written at a time, for each copy of an encoder's weights
    workers: int = setting(0, least=0)  # processes that decode; 0: one per core
    time_limit: float = setting(60.0, above=0)  # seconds that a clip may take, and one more for each MiB of its file
    most_face_frames: int = setting(4096, least=1)  # of a longer clip every second, third, ... frame is searched
    # Every so manyth frame, of 16, is searched for all faces, those between for faces as large as there, and for all
    # where they are not there any more. 1: all frames for all faces. 0: 16 on a CPU, else 1.
    face_stride: int = setting(0, least=0)


def time_limit(clip: Clip, seconds: float) -> float:
    """Seconds after which decoding a clip is given up: `seconds`, and one more for each MiB of its file."""
    return seconds + (clip.media.stat().st_size / 2**20 if clip.media and clip.media.exists() else 0.0)


def identity(path: Path | None) -> str:
    """Names a file's content cheaply: name, size and time of the last change; and whether it may not be read."""
    if path is None or not path.exists():
        return "none"
    stat = path.stat()
    return f"{printable(path.name)}|{stat.st_size}|{stat.st_mtime_ns}" + "|no access" * (not os.access(path, os.R_OK))


def media_of(clip: Clip) -> Path:
    """The clip's media file. Raises Absent where it has none."""
    if clip.media is None:
        raise Absent("row without a clip")
    return clip.media


def clip_sound(clip: Clip, sample_rate: int) -> np.ndarray:
    """Mono int16 [S] at `sample_rate` Hz."""
    clip.check("speech")
    if clip.prepared:
        waveform = clip.prepared.sound(sample_rate)
    else:
        waveform = read_sound(media_of(clip), sample_rate, clip.audio_track)
    return clip.corruption.sound(waveform) if clip.corruption else waveform


def clip_frames(clip: Clip, choose: Callable[[int], np.ndarray]) -> np.ndarray:
    """Chosen whole frames, uint8 RGB [T, H, W, 3]. choose: see media.choose_frames."""
    clip.check("video")
    frames = clip.prepared.frames(choose) if clip.prepared else read_frames(media_of(clip), choose)
    return clip.corruption.frames(frames, "video") if clip.corruption else frames


def clip_faces(clip: Clip) -> np.ndarray:
    """Aligned crops of the main face, uint8 RGB [T, H, W, 3], T > 0."""
    clip.check("image")
    if clip.prepared:
        crops = clip.prepared.faces()
    elif clip.faces is None:
        raise Absent(clip.no_faces if clip.media else "row without a clip")
    elif clip.faces.is_dir():
        crops = read_images(clip.faces)
    else:
        if clip.cut:
            check_crops(clip.faces)
        crops = with_face(np.array(mapped_crops(clip.faces))[..., ::-1])  # RGB
    if not len(crops):
        raise Absent("no face")
    return clip.corruption.frames(crops, "image") if clip.corruption else crops


def mapped_array(path: Path, bytes_each: int = 1) -> np.ndarray:
    """The array of a .npy file, mapped: a damaged header may claim any size. Absent, whatever is wrong with it.

    bytes_each: that a number will take at least.
    """
    try:
        with open_regular(path) as file:
            if file.read(len(MAGIC_PREFIX)) != MAGIC_PREFIX:
                raise ValueError("not a .npy array")
        with ONE_AT_A_TIME:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        if (size := max(array.nbytes, bytes_each * array.size)) > MOST_BYTES:
            raise ValueError(f"it holds {size / 2**30:.1f} GiB, more than {MOST_BYTES / 2**30:.1f}")
        if array.dtype.kind not in "biuf":
            raise ValueError(f"it holds {array.dtype}, expected real numbers")
        return array
    except SystemError:  # the interpreter's
        raise
    except Exception as error:  # numpy's header parser raises almost anything
        if of_the_system(error):
            raise
        raise Absent(f"{path.name} cannot be read: {str(error) or type(error).__name__}") from error


def mapped_crops(path: Path) -> np.ndarray:
    """The baseline's crops, uint8 BGR [T, H, W, 3] in a .npy file, mapped."""
    crops = mapped_array(path)
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[-1] != 3:
        raise Absent(f"face crops are {crops.dtype} {list(crops.shape)}, expected uint8 [T, H, W, 3]")
    return crops


def with_face(crops: np.ndarray) -> np.ndarray:
    """Crops [T, H, W, 3] without those that are black, which OpenFace writes where it has lost the face."""
    shown = crops.any(axis=(1, 2, 3))
    return crops if shown.all() else crops[shown]


def read_images(folder: Path) -> np.ndarray:
    """A folder of aligned images in the order of the numbers in their names, uint8 RGB [T, H, W, 3]: the first face's.

    All are read but where the names number several faces of a frame. Images of another size than most are resized.
    """
    paths = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."]
    try:
        images = list(
            rgb_images(open_regular(path, MOST_BYTES) for path in first_face(sorted(paths, key=counting_order)))
        )
        if not images:
            return np.zeros((0, 1, 1, 3), np.uint8)
        size, _ = Counter(image.size for image in images).most_common(1)[0]
        return with_face(np.stack([np.asarray(i if i.size == size else i.resize(size)) for i in images]))
    except Exception as error:  # Pillow's decoders raise more than OSError
        if of_the_system(error):
            raise
        raise Absent(f"face images cannot be read: {str(error) or type(error).__name__}") from error


def rgb_images(files: Iterable[IO[bytes]]) -> Iterator[Image.Image]:
    """The pictures in image files, which it closes. ValueError where they are too large, before they are decoded."""
    total = 0
    for file in files:
        with file, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # Pillow's limit is another
            name = Path(getattr(file, "name", "one")).name
            try:
                picture = Image.open(file, formats=FORMATS)
            except Image.DecompressionBombError as error:
                raise ValueError(f"{name} is more than {LARGEST_SIDE} px across") from error
            with picture as image:
                total += 3 * image.width * image.height
                if max(image.size) > LARGEST_SIDE:
                    raise ValueError(f"{name} is more than {LARGEST_SIDE} px across")
                if total > MOST_BYTES:
                    raise ValueError(f"more than {MOST_BYTES / 2**30:.1f} GiB of them")
                yield as_shown(image)


def as_shown(image: Image.Image) -> Image.Image:
    """The image in RGB, upright: cameras say in its EXIF how it lies. Of 16 bits the upper 8, where Pillow clips."""
    if image.mode == "F":
        raise ValueError("pixels that are fractions, expected 8 or 16 bits")
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        upright = Image.fromarray((np.asarray(upright) >> 8).clip(0, 255).astype(np.uint8))
    return upright.convert("RGB")


def counting_order(path: Path) -> list[tuple[str, int]]:
    """A key by which frame_2 comes before frame_10."""
    return [(text, int(number or -1)) for text, number in re.findall(r"(\D*)(\d*)", path.stem)]


def first_face(paths: list[Path]) -> list[Path]:
    """Of images whose names number several faces of a frame, each frame's first; else all of them.

    A number is a face's in OpenFace's names, behind a word that says so, and where a name is nothing but a frame's
    number and another that counts from 0 (frame0001_0, 0001_0; not 00_05, a time). But for OpenFace's there must be at
    least as many frames as faces, and fewer than images: clip1_0001, clip1_0002, ... and face_0001, face_0002, ... are
    frames of one face.
    """
    if numbered := numbered_by(OPENFACE, paths):
        return firsts(numbered)
    for pattern, names in ((SAID, None), (COUNTED, COUNTED_NAME)):
        numbered = numbered_by(pattern, paths) if names is None or all(names.fullmatch(p.stem) for p in paths) else {}
        faces, frames = {face for _, face in numbered.values()}, {frame for frame, _ in numbered.values()}
        counts = names is None or faces == set(range(len(faces)))
        if len(numbered) == len(paths) and counts and len(faces) <= len(frames) < len(paths):
            return firsts(numbered)
    return paths


def numbered_by(pattern: re.Pattern[str], paths: list[Path]) -> dict[Path, tuple[str, int]]:
    """Image -> its frame, which is the rest of its name, and its face's number, for those that have one."""
    matches = {path: match for path in paths if (match := pattern.search(path.stem))}
    return {
        path: (match.string[: match.start()] + match.string[match.end() :], int(match[1]))
        for path, match in matches.items()
    }


def firsts(numbered: dict[Path, tuple[str, int]]) -> list[Path]:
    """Each frame's image with the least number."""
    least: dict[str, int] = {}
    for frame, face in numbered.values():
        least[frame] = min(face, least.get(frame, face))
    return [path for path, (frame, face) in numbered.items() if face == least[frame]]
