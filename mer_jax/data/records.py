"""What a prepared data set keeps of a clip, made from its media file: the job of a worker process.

Nothing here imports JAX or TFDS, so that worker processes start fast (mer_jax/data/workers.py).
"""

import hashlib
import json
from collections.abc import Generator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.decoding import clip_faces
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
    """A clip's record: a worker's job, which asks for the faces in its frames."""
    example: dict[str, Any] = {"waveform": np.zeros(0, np.int16), "frames": [], "faces": [], "frames_without_face": 0}
    absent = {}
    try:
        if clip.media is None:
            raise Absent("row without a clip")
        example["waveform"] = read_sound(clip.media, SAMPLE_RATE)
    except Absent as reason:
        absent["speech"] = str(reason)
    jpeg = partial(to_jpeg, quality=settings.jpeg_quality)
    try:
        if clip.media is None:
            raise Absent("row without a clip")
        total = len(frame_times(clip.media))
        sampled = segment_centres(settings.frames, total)
        watched = at_most(settings.most_face_frames if clip.faces is None else 1, total)
        positions = np.union1d(sampled, watched)
        blocks = frame_blocks(clip.media, lambda total: positions)

        def passing() -> Generator[Block, None, None]:
            number = 0
            for block in blocks:
                chosen = np.isin(positions[number : number + len(block.frames)], sampled)
                example["frames"] += [jpeg(frame, settings.frame_side) for frame in block.frames[chosen]]
                number += len(block.frames)
                yield block

        if clip.faces is None:
            crops, example["frames_without_face"] = yield from crop_main_face(passing(), settings.face_size)
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
