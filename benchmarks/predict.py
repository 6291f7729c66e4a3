"""Prediction on many short clips, end to end: clips/s, resident memory as the clips go by, and latency of one clip.

    python -m benchmarks.predict --workdir=RUN --input=FOLDER [--clips=2000] [--workers=2] [--decoded=64]

Peer: the same encoders, the face detector among them, on the same clips when these are decoded already ("of the
encoders' rate": clips/s over those; on a CPU that also counts what the decoding processes take from it), measured
before and after. The clips are those of a folder or table, again and again. "resident": this process and its workers.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import numpy as np
from absl import flags

from benchmarks.memory import resident
from benchmarks.timing import show
from mer_jax.recognition.contents import read_files
from mer_jax.recognition.files import File, media
from mer_jax.recognition.recognizer import Recognizer
from mer_jax.runtime import cli

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)
INPUT = flags.DEFINE_multi_string("input", None, "As of mer_jax.predict.", required=True)
CLIPS = flags.DEFINE_integer("clips", 2000, "Clips that are predicted.")
WORKERS = flags.DEFINE_integer("workers", 0, "Processes that decode; 0: one per core.")
DECODED = flags.DEFINE_integer("decoded", 64, "Clips that the peer holds in memory.")


class Resident:
    """Samples the memory of this process and its children, MiB."""

    def __enter__(self) -> "Resident":
        self.samples: list[float] = []
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.sample)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    def sample(self) -> None:
        while not self.done.wait(0.5):
            self.samples.append(resident())


def encoders_rate(recognizer: Recognizer, files: Sequence[File]) -> float:
    """Clips/s of the face detector and the encoders on what is decoded already."""
    searched: list[np.ndarray] = []

    def find(fitted: np.ndarray) -> Any:
        searched.append(fitted)
        return recognizer.detector.find(fitted)

    extraction = replace(recognizer.extraction, workers=WORKERS.value)
    contents = list(read_files(files, recognizer.audio_track, recognizer.wanted(), extraction, find))
    start = time.perf_counter()
    for fitted in searched:
        recognizer.detector.find(fitted)
    recognizer.lines(files, iter(contents))
    return len(files) / (time.perf_counter() - start)


def main() -> None:
    """The benchmark."""
    recognizer = Recognizer.load(WORKDIR.value)
    recognizer.extraction = replace(recognizer.extraction, workers=WORKERS.value)
    some = list(media(INPUT.value))
    files = list(islice(cycle(some), CLIPS.value))
    recognizer.batch(files[: DECODED.value])  # compiles
    recognizer.batch(files[:1])
    start = time.perf_counter()
    recognizer.batch(files[:1])
    one = time.perf_counter() - start
    before = encoders_rate(recognizer, files[: DECODED.value])
    rows: list[dict[str, Any]] = []
    start = last = time.perf_counter()
    with Resident() as resident:
        for lines in recognizer.shards(files):
            now, sampled = time.perf_counter(), resident.samples[-20:] or [0.0]
            rate = round(len(lines) / (now - last), 2)
            rows.append({"clips": len(lines), "clips/s": rate, "resident, MiB": round(max(sampled))})
            last = now
    rate = len(files) / (last - start)
    after = encoders_rate(recognizer, files[: DECODED.value])
    show(
        rows,
        clips=len(files),
        clips_per_s=round(rate, 2),
        encoders_clips_per_s=[round(before, 2), round(after, 2)],
        of_the_encoders_rate=round(2 * rate / (before + after), 3),
        one_clip_s=round(one, 3),
        resident_MiB=round(max(resident.samples)),
    )


if __name__ == "__main__":
    cli.run(main)
