"""What a prepared data set keeps of a clip, made from its media file: the job of a worker process.

Nothing here imports JAX or TFDS, so that worker processes start fast (mer_jax/data/workers.py).
"""

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mer_jax.data.clips import NOT_VALID, Absent, Clip
from mer_jax.data.decoding import ExtractionSettings, clip_faces, media_of
from mer_jax.data.faces import FACE_SIZE, Faces, crop_main_face, to_jpeg
from mer_jax.data.media import Block, at_most, frame_blocks, frame_times, read_sound, segment_centres
from mer_jax.data.prepared import SAMPLE_RATE
from mer_jax.runtime.files import printable
from mer_jax.runtime.settings import as_dict, section, setting


@dataclass(frozen=True)
class PrepareSettings:
    """What mer_jax.prepare keeps of a clip, beside its sound: `config.prepare`."""

    shard_clips: int = setting(256, least=1)
    frames: int = setting(48, least=1)  # an odd multiple of num_frames holds just the frames that inference takes
    frame_side: int = setting(256, least=0)  # px of a frame's shorter side; 0: as it is
    jpeg_quality: int = setting(95, least=1, most=100)


@dataclass(frozen=True)
class RecordSettings:
    """What is kept of a clip, and how it is decoded."""

    prepare: PrepareSettings = section(PrepareSettings)
    extraction: ExtractionSettings = section(ExtractionSettings)
    face_size: int = FACE_SIZE  # px of a crop's side

    @property
    def content(self) -> dict[str, Any]:
        """Those that the records depend on."""
        prepare = as_dict(self.prepare)
        del prepare["shard_clips"]
        faces = {"face_size": self.face_size, "most_face_frames": self.extraction.most_face_frames}
        if stride := self.extraction.face_stride:  # by default as it was before there was a choice
            faces["face_stride"] = stride
        return prepare | faces


def prepare_clip(clip: Clip, settings: RecordSettings) -> Generator[np.ndarray, list[Faces], dict[str, Any]]:
    """A clip's record: a worker's job, which asks for the faces in its frames (see `crop_main_face`)."""
    record, absent = empty_record(), dict[str, str]()
    jpeg = partial(to_jpeg, quality=settings.prepare.jpeg_quality)
    with noting(absent, "speech"):
        clip.check("speech")
        record["waveform"] = read_sound(media_of(clip), SAMPLE_RATE, clip.audio_track)
    crops = np.zeros((0, 1, 1, 3), np.uint8)
    with noting(absent, "video"):
        if clip.hides("image"):
            clip.check("video")  # else its frames show the faces
        media = media_of(clip)
        total = len(frame_times(media)[0])
        sampled = segment_centres(settings.prepare.frames, total)
        watched = at_most(settings.extraction.most_face_frames if clip.faces is None else 1, total)
        positions = np.union1d(sampled, watched)
        shrunk = partial(jpeg, short_side=settings.prepare.frame_side)
        blocks = tapped(frame_blocks(media, lambda total: positions), np.isin(positions, sampled), shrunk, record)
        if clip.faces is None:
            crops, record["frames_without_face"] = yield from crop_main_face(blocks, settings.face_size)
        else:
            for _ in blocks:
                pass
    with noting(absent, "image"):
        clip.check("image")
        if clip.faces is not None:
            crops = clip_faces(clip)
        elif not len(crops):
            raise Absent(absent.get("video", "no face"))
        record["faces"] = [jpeg(crop) for crop in crops]
    if clip.hides("video"):
        record["frames"], absent["video"] = [], NOT_VALID
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
    return json.dumps(
        {"file": printable(media.name), "bytes": media.stat().st_size, "sha256": digest}, ensure_ascii=False
    )


def lost(reason: Absent) -> dict[str, Any]:
    """The record of a clip whose worker has died."""
    absent = json.dumps(dict.fromkeys(("speech", "image", "video"), str(reason)), ensure_ascii=False)
    return empty_record() | {"absent": absent, "provenance": "{}"}
