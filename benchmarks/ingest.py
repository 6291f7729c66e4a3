"""Video files to aligned faces: decode, detect, align.

    pip install opencv-python-headless
    python -m benchmarks.ingest --clips=FOLDER [--repeats=3] [--most_clips=4] [--cores=1]

Peer: OpenCV's decoding and a torch MTCNN with the same weights. Equal work: both decode every frame, find the faces at
the same size and thresholds, and cut one of them out to 128 px. Where a clip's frame rate varies, both take the frames
on show at evenly spaced moments. The peer turns frames to RGB before it shrinks them, which rounds their colours
otherwise: it may cut a crop more or less of a face that the detector only just finds. All processes together are held
to --cores; run it with 1, 2, ... to see how it scales. OpenFace's paper gives 30 frames/s on a desktop; that stands
beside, not measured.
"""

import os
from collections import Counter
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from absl import app, flags

from benchmarks.timing import alternate, ratio, show
from mer_jax.data.clip_files import VIDEO_SUFFIXES
from mer_jax.data.clips import Clip
from mer_jax.data.decoding import media_of
from mer_jax.data.detect import FaceDetector
from mer_jax.data.faces import align, crop_clip, fit
from mer_jax.data.media import Block, choose_frames, frame_times
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
    crops_of_clips = map_in_workers(job, clips, lambda clip: 600.0, count=workers, answer=detector.find)
    return sum(len(crops) for crops, _ in crops_of_clips)


def peers(clips: list[Clip], detector: TorchMTCNN) -> int:
    """Number of crops."""
    crops = 0
    for clip in clips:
        path = media_of(clip)
        times = Counter(choose_frames(frame_times(path)[0], np.arange).tolist())
        video, block = cv2.VideoCapture(str(path)), list[np.ndarray]()
        for number in count():
            more, frame = video.read()
            if more:
                block += [cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)] * times[number]
            if block and (not more or len(block) >= BLOCK):
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
    """The benchmark."""
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
    crops = {name: rival() for name, rival in rivals.items()}
    seconds = alternate(rivals, REPEATS.value)
    rows: list[dict[str, Any]] = [
        {"": name, "frames/s": round(frames / median(spent), 1), "crops": crops[name], **ratio(seconds["ours"], spent)}
        for name, spent in seconds.items()
    ]
    rows.append({"": "OpenFace on a desktop, its paper", "frames/s": OPENFACE})
    show(rows, benchmark="ingest", cores=CORES.value, frames=frames)


if __name__ == "__main__":
    app.run(main)
