"""Decode + detect + align against OpenCV decoding + a torch MTCNN with the same weights; prepare with more workers.

    pip install opencv-python-headless
    python -m benchmarks.ingest --clips=FOLDER [--repeats=3] [--most_clips=4] [--scaling=1 --scaling=2]

Frames per second per core: all processes together are held to one core for the comparison. Both sides decode every
frame, find all faces at the same size and thresholds, and cut the best one out to 128 px. OpenFace's paper gives
30 frames/s on a desktop; that is printed beside, not measured.
"""

import json
import os
import time
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from absl import app, flags

from mer_jax.data.clips import Clip
from mer_jax.data.detect import FaceDetector
from mer_jax.data.faces import align, crop_clip, fit
from mer_jax.data.layouts import VIDEO_SUFFIXES
from mer_jax.data.workers import IDLE, map_in_workers
from tests.models.torch_mtcnn import TorchMTCNN

CLIPS = flags.DEFINE_string("clips", None, "Folder of video files.", required=True)
MOST_CLIPS = flags.DEFINE_integer("most_clips", 4, "Of these, at most so many.")
REPEATS = flags.DEFINE_integer("repeats", 3, "Measured rounds, ours and the peer in turn.")
SCALING = flags.DEFINE_multi_integer("scaling", [1, 2], "Numbers of workers (and cores) to prepare with.")
OPENFACE = 30.0  # frames/s, Baltrusaitis et al. 2018, a desktop
BLOCK = 16  # frames


def ours(clips: list[Clip], detector: FaceDetector, workers: int) -> int:
    """Number of crops."""
    job = partial(crop_clip, size=128, most_frames=10**9)
    found = map_in_workers(job, clips, lambda clip: 600.0, count=workers, answer=detector.find)
    return sum(len(crops) for crops, _ in found)


def peers(clips: list[Clip], detector: TorchMTCNN) -> int:
    """Number of crops."""
    crops = 0
    for clip in clips:
        video, block = cv2.VideoCapture(str(clip.media)), []
        while True:
            more, frame = video.read()
            if more:
                block.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            if block and (not more or len(block) == BLOCK):
                fitted, to_frame = fit(np.stack(block))
                for image, (_, scores, landmarks) in zip(block, detector.detect(fitted), strict=True):
                    if len(scores):
                        align(image, landmarks[0] * to_frame - 0.5)
                        crops += 1
                block = []
            if not more:
                break
    return crops


def main(_: list[str]) -> None:
    """Prints a table and a line of JSON."""
    paths = [path for path in sorted(Path(CLIPS.value).iterdir()) if path.suffix in VIDEO_SUFFIXES][: MOST_CLIPS.value]
    clips = [Clip(path.name, "train", media=path) for path in paths]
    frames = sum(int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT)) for path in paths)
    cores = sorted(os.sched_getaffinity(0))

    def held_to(count: int) -> None:
        for process in (0, *(worker.process.pid for worker in IDLE)):
            os.sched_setaffinity(process, cores[:count])
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), cores[:count])

    torch.set_num_threads(1)
    detector, reference = FaceDetector(), TorchMTCNN()
    rivals = {"ours": lambda: ours(clips, detector, 1), "OpenCV + torch MTCNN": lambda: peers(clips, reference)}
    crops = {name: rival() for name, rival in rivals.items()}  # also compiles and starts the workers
    held_to(1)
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(REPEATS.value):
        for name, rival in rivals.items():
            start = time.perf_counter()
            rival()
            seconds[name].append(time.perf_counter() - start)
    rates = {name: [round(frames / spent, 1) for spent in own] for name, own in seconds.items()}
    ratios = [peer / own for own, peer in zip(*seconds.values(), strict=True)]

    scaling = {}
    for count in SCALING.value:
        if count <= len(cores):
            ours(clips, detector, count)  # starts them
            held_to(count)
            start = time.perf_counter()
            ours(clips, detector, count)
            scaling[count] = round(frames / (time.perf_counter() - start), 1)

    for name, own in rates.items():
        print(f"{name:24s} {median(own):7.1f} frames/s on one core ({min(own)} to {max(own)}), {crops[name]} crops")
    print(f"{'ratio':24s} {median(ratios):7.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"{'OpenFace, its paper':24s} {OPENFACE:7.1f} frames/s on a desktop, not measured here")
    for count, rate in scaling.items():
        print(f"{f'ours, {count} workers':24s} {rate:7.1f} frames/s on {count} cores")
    print(
        json.dumps({"frames": frames, "crops": crops, "frames_per_second": rates, "ratios": ratios, "scaling": scaling})
    )


if __name__ == "__main__":
    app.run(main)
