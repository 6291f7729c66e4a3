"""What a prepared data set keeps of a clip, made from its media file: the job of a worker process.

Nothing here imports JAX or TFDS, so that worker processes start fast (mer_jax/data/workers.py).
"""

import hashlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.decoding import ExtractionSettings, clip_faces
from mer_jax.data.faces import FACE_SIZE, Faces, crop_main_face, to_jpeg
from mer_jax.data.media import Block, at_most, frame_blocks, frame_times, read_sound, segment_centres
from mer_jax.data.prepared import SAMPLE_RATE
from mer_jax.runtime.settings import section, setting


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

    @property
    def content(self) -> dict[str, Any]:
        """Those that the records depend on."""
        return {
            "frames": self.prepare.frames,
            "frame_side": self.prepare.frame_side,
            "jpeg_quality": self.prepare.jpeg_quality,
            "face_size": FACE_SIZE,
            "most_face_frames": self.extraction.most_face_frames,
        }


def prepare_clip(clip: Clip, settings: RecordSettings) -> Generator[np.ndarray, list[Faces], dict[str, Any]]:
    """A clip's record: a worker's job, which asks for the faces in its frames."""
    example: dict[str, Any] = {"waveform": np.zeros(0, np.int16), "frames": [], "faces": [], "frames_without_face": 0}
    absent = {}
    try:
        if clip.media is None:
            raise Absent("row without a clip")
        example["waveform"] = read_sound(clip.media, SAMPLE_RATE)
    except Absent as reason:
        absent["speech"] = str(reason)
    jpeg = partial(to_jpeg, quality=settings.prepare.jpeg_quality)
    try:
        if clip.media is None:
            raise Absent("row without a clip")
        total = len(frame_times(clip.media))
        sampled = segment_centres(settings.prepare.frames, total)
        watched = at_most(settings.extraction.most_face_frames if clip.faces is None else 1, total)
        positions = np.union1d(sampled, watched)
        blocks = frame_blocks(clip.media, lambda total: positions)

        def passing() -> Generator[Block, None, None]:
            number = 0
            for block in blocks:
                chosen = np.isin(positions[number : number + len(block.frames)], sampled)
                example["frames"] += [jpeg(frame, settings.prepare.frame_side) for frame in block.frames[chosen]]
                number += len(block.frames)
                yield block

        if clip.faces is None:
            crops, example["frames_without_face"] = yield from crop_main_face(passing(), FACE_SIZE)
        else:
            for _ in passing():
                pass
    except Absent as reason:
        absent["video"] = str(reason)
        crops = np.zeros((0, 1, 1, 3), np.uint8)
    try:
        if clip.faces is not None:
            crops = clip_faces(clip)
        elif not len(crops):
            raise Absent(absent.get("video", "no face"))
        example["faces"] = [jpeg(crop) for crop in crops]
    except Absent as reason:
        absent["image"] = str(reason)
    return example | {"absent": json.dumps(absent, ensure_ascii=False), "provenance": provenance(clip.media)}


def provenance(media: Path | None) -> str:
    """Where a record comes from."""
    if media is None:
        return "{}"
    with open(media, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return json.dumps({"file": media.name, "bytes": media.stat().st_size, "sha256": digest}, ensure_ascii=False)


def lost(reason: str) -> dict[str, Any]:
    """The record of a clip whose worker has died."""
    absent = json.dumps(dict.fromkeys(("speech", "image", "video"), reason), ensure_ascii=False)
    nothing = {"waveform": np.zeros(0, np.int16), "frames": [], "faces": [], "frames_without_face": 0}
    return nothing | {"absent": absent, "provenance": "{}"}
