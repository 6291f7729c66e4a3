"""Compiles what requests will need, before the first of them comes."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mer_jax.data.clips import Absent
from mer_jax.data.faces import FACE_SIZE, LONG_SIDE, SHORT_SIDES
from mer_jax.data.recording import Window
from mer_jax.features.extraction import FEW, Dispatch
from mer_jax.features.readers import FaceReader, SpeechReader, TextReader, VideoReader
from mer_jax.recognition.contents import read_files
from mer_jax.recognition.files import File
from mer_jax.recognition.recognizer import Recognizer
from mer_jax.runtime.progress import progress

# Height and width of what people film; what else comes is compiled when it does.
FRAMES = ((240, 320), (480, 640), (720, 1280), (1080, 1920))


def warm(recognizer: Recognizer, batch_clips: int) -> None:
    """Runs every encoder at every length in batches of up to `batch_clips`, and all that comes before and after."""
    rng = np.random.default_rng(0)
    sizes = [size for size in FEW[:-1] if size < 4 * batch_clips]
    jobs = [
        (modality, chunk, size)
        for modality, encoder in recognizer.encoders.items()
        for bucket in encoder.buckets
        for number, array in enumerate(examples(encoder.reader, bucket, rng))
        for chunk in encoder.reader.chunks(array)
        for size in (sizes if not number else sizes[:1])
    ]
    extraction, nothing = recognizer.extraction, File(Path(os.devnull))
    workers = extraction.workers or os.cpu_count() or 1
    with progress("warming up", len(jobs) + 1, "program") as bar:
        if "image" in recognizer.encoders:
            for side in SHORT_SIDES:
                for frames in (np.zeros((2, side, LONG_SIDE, 3)), np.zeros((2, LONG_SIDE, side, 3))):
                    recognizer.detector.find(frames.astype(np.uint8))
        list(
            read_files([nothing] * workers, "", recognizer.wanted(), extraction, recognizer.detector.find)
        )  # starts them
        bar.update()
        for modality, chunk, size in jobs:
            dispatch = Dispatch(recognizer.encoders[modality], recognizer.programs[modality], small=True)
            for position in range(size):
                dispatch.add(position, [chunk])
            dispatch.finish()
            dispatch.embeddings()
            bar.update()
    contents = {
        modality: next(examples(encoder.reader, encoder.buckets[0], rng), Absent("nothing"))
        for modality, encoder in recognizer.encoders.items()
    }
    recognizer.lines([nothing._replace(window=Window(0.0, 1.0))], iter([contents]), small=True)


def examples(reader: Any, bucket: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """What a reader takes for a bucket to be filled; of videos one for each usual size of frames."""
    match reader:
        case SpeechReader():
            yield rng.integers(-9999, 9999, bucket, np.int16)
        case FaceReader():
            yield rng.integers(0, 255, (bucket, FACE_SIZE, FACE_SIZE, 3), np.uint8)
        case VideoReader():
            for height, width in (*FRAMES, *(side[::-1] for side in FRAMES)):
                yield np.zeros((bucket, height, width, 3), np.uint8)
        case TextReader():
            yield np.ones(bucket, np.int32)
