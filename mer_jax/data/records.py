"""What a prepared data set keeps of a clip, made from its media file: the job of a worker process.

Nothing here imports JAX or TFDS, so that worker processes start fast (mer_jax/data/workers.py).
"""

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.decoding import clip_faces, media_of
from mer_jax.data.faces import Faces, crop_main_face, to_jpeg
from mer_jax.data.media import Block, at_most, frame_blocks, frame_times, read_sound, segment_centres
from mer_jax.data.prepared import SAMPLE_RATE


@dataclass(frozen=True)
class PrepareSettings:
    """What is kept of a clip (`config.prepare`), and how it is decoded (`config.extraction`)."""

    frames: int
    frame_side: int  # px of the shorter side; 0: as they are
    jpeg_quality: int
    face_size: int
    most_face_frames: int
    workers: int
    time_limit: float

    @property
    def content(self) -> dict[str, Any]:
        """Those that the records depend on."""
        return {key: value for key, value in asdict(self).items() if key not in ("workers", "time_limit")}


def prepare_clip(clip: Clip, settings: PrepareSettings) -> Generator[np.ndarray, list[Faces], dict[str, Any]]:
    """A clip's record: a worker's job, which asks for the faces in its frames (see `crop_main_face`)."""
    record, absent = empty_record(), dict[str, str]()
    jpeg = partial(to_jpeg, quality=settings.jpeg_quality)
    with noting(absent, "speech"):
        record["waveform"] = read_sound(media_of(clip), SAMPLE_RATE)
    crops = np.zeros((0, 1, 1, 3), np.uint8)
    with noting(absent, "video"):
        media = media_of(clip)
        total = len(frame_times(media))
        sampled = segment_centres(settings.frames, total)
        watched = at_most(settings.most_face_frames if clip.faces is None else 1, total)
        positions = np.union1d(sampled, watched)
        blocks = frame_blocks(media, lambda total: positions)
        blocks = tapped(blocks, np.isin(positions, sampled), partial(jpeg, short_side=settings.frame_side), record)
        if clip.faces is None:
            crops, record["frames_without_face"] = yield from crop_main_face(blocks, settings.face_size)
        else:
            for _ in blocks:
                pass
    with noting(absent, "image"):
        if clip.faces is not None:
            crops = clip_faces(clip)
        elif not len(crops):
            raise Absent(absent.get("video", "no face"))
        record["faces"] = [jpeg(crop) for crop in crops]
    return record | {"absent": json.dumps(absent, ensure_ascii=False), "provenance": provenance(clip.media)}


def empty_record() -> dict[str, Any]:
    """A record in which nothing stands yet."""
    return {"waveform": np.zeros(0, np.int16), "frames": [], "faces": [], "frames_without_face": 0}


@contextmanager
def noting(absent: dict[str, str], modality: str) -> Iterator[None]:
    """Notes in `absent` why a clip lacks a modality."""
    try:
        yield
    except Absent as reason:
        absent[modality] = str(reason)


def tapped(
    blocks: Iterable[Block], sampled: np.ndarray, jpeg: Callable[[np.ndarray], bytes], record: dict[str, Any]
) -> Iterator[Block]:
    """Passes blocks of a clip's frames on, and adds those that are `sampled` (bool [T]) to its record."""
    start = 0
    for block in blocks:
        stop = start + len(block.pictures)
        record["frames"] += [jpeg(frame) for frame in block.frames[sampled[start:stop]]]
        start = stop
        yield block


def provenance(media: Path | None) -> str:
    """Where a record comes from."""
    if media is None:
        return "{}"
    with open(media, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return json.dumps({"file": media.name, "bytes": media.stat().st_size, "sha256": digest}, ensure_ascii=False)


def lost(reason: Absent) -> dict[str, Any]:
    """The record of a clip whose worker has died."""
    absent = json.dumps(dict.fromkeys(("speech", "image", "video"), str(reason)), ensure_ascii=False)
    return empty_record() | {"absent": absent, "provenance": "{}"}
