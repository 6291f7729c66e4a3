"""Decode + detect + align against OpenCV decoding + a torch MTCNN with the same weights.

    pip install opencv-python-headless
    python -m benchmarks.ingest --clips=FOLDER [--repeats=3] [--most_clips=4] [--cores=1]

All processes together are held to --cores; run it with 1, 2, ... to see how it scales. Both sides decode every frame,
find all faces at the same size and thresholds, and cut one of them out to 128 px. OpenFace's paper gives 30 frames/s
on a desktop; that is printed beside, not measured.
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

from mer_jax.data.clip_files import VIDEO_SUFFIXES
from mer_jax.data.clips import Clip
from mer_jax.data.detect import FaceDetector
from mer_jax.data.faces import align, crop_clip, fit
from mer_jax.data.media import Block
from mer_jax.data.workers import map_in_workers
from tests.models.torch_mtcnn import TorchMTCNN

CLIPS = flags.DEFINE_string("clips", None, "Folder of video files.", required=True)
MOST_CLIPS = flags.DEFINE_integer("most_clips", 4, "Of these, at most so many.")
REPEATS = flags.DEFINE_integer("repeats", 3, "Measured rounds, ours and the peer in turn.")
CORES = flags.DEFINE_integer("cores", 1, "Cores that all processes together are held to, and decoding workers.")
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
                fitted, to_frame = fit(Block.of(np.stack(block)))
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
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: CORES.value])  # before JAX starts; workers inherit it
    torch.set_num_threads(CORES.value)
    detector, reference = FaceDetector(), TorchMTCNN()
    rivals = {
        "ours": lambda: ours(clips, detector, CORES.value),
        "OpenCV + torch MTCNN": lambda: peers(clips, reference),
    }
    crops = {name: rival() for name, rival in rivals.items()}  # also compiles and starts the workers
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for _repeat in range(REPEATS.value):
        for name, rival in rivals.items():
            start = time.perf_counter()
            rival()
            seconds[name].append(time.perf_counter() - start)
    rates = {name: [round(frames / spent, 1) for spent in own] for name, own in seconds.items()}
    ratios = [peer / own for own, peer in zip(*seconds.values(), strict=True)]

    for name, own in rates.items():
        spread = f"{min(own)} to {max(own)}"
        print(f"{name:24s} {median(own):7.1f} frames/s on {CORES.value} cores ({spread}), {crops[name]} crops")
    print(f"{'ratio':24s} {median(ratios):7.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"{'OpenFace, its paper':24s} {OPENFACE:7.1f} frames/s on a desktop, not measured here")
    print(json.dumps({"cores": CORES.value, "frames": frames, "crops": crops, "rates": rates, "ratios": ratios}))


if __name__ == "__main__":
    app.run(main)
