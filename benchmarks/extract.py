"""Extraction from mp4 files, end to end: clips/s, how busy the device is, resident memory as the clips grow.

    python -m benchmarks.extract [--clips=100 --clips=2000] [--modality=speech] [--config.extraction.workers=1]

Clips come from the bundled sample, again and again under other names. The device counts as busy from a batch's
start until its result is there. Resident memory is this process's, at the end of each size.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags

from benchmarks.timing import show
from mer_jax import cli
from mer_jax.features.encoders import Embed, Encoder
from mer_jax.features.extraction import extract
from mer_jax.features.store import FeatureStore
from mer_jax.stages import frame_level_encoder, open_dataset

CONFIG = config_flags.DEFINE_config_file("config", "configs/semi.py", "Config file; see configs/semi.py.")
CLIPS = flags.DEFINE_multi_integer("clips", [100, 2000], "Numbers of clips.")
MODALITY = flags.DEFINE_string("modality", "speech", "speech or image.")


class Clock:
    """Wraps an encoder's program and adds up the seconds that it takes."""

    def __init__(self, encoder: Encoder):
        self.seconds = 0.0
        self.encoder = replace(encoder, load=lambda: self.timed(embed))
        embed = encoder.load()

    def timed(self, embed: Embed) -> Callable[..., Any]:
        def call(*arrays: jax.Array) -> Any:
            start = time.perf_counter()
            out = jax.block_until_ready(embed(*arrays))
            self.seconds += time.perf_counter() - start
            return out

        return call


def resident_mib() -> float:
    """Resident memory of this process (Linux)."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def main() -> None:
    """The command."""
    config = CONFIG.value
    present = [clip for clip in open_dataset(config).clips if clip.media and clip.faces]
    clock = Clock(frame_level_encoder(config, MODALITY.value, {}))
    rows = []
    for count in (min(64, *CLIPS.value), *CLIPS.value):  # the first compiles and is not shown
        clips = [replace(present[i % len(present)], name=f"{i:06d}") for i in range(count)]
        folder = Path(tempfile.mkdtemp())
        clock.seconds, start = 0.0, time.perf_counter()
        extract(
            clips,
            clock.encoder,
            FeatureStore(folder),
            shard_size=config.extraction.shard_clips,
            workers=config.extraction.workers,
        )
        seconds = time.perf_counter() - start
        shutil.rmtree(folder)
        rows.append(
            {
                "clips": count,
                "clips/s": round(count / seconds, 1),
                "device busy": f"{clock.seconds / seconds:.0%}",
                "resident, MiB": round(resident_mib()),
            }
        )
    show(rows[1:], modality=MODALITY.value, workers=config.extraction.workers)


if __name__ == "__main__":
    cli.run(main)
