"""Extraction from mp4 files, end to end: clips/s, how busy the device is, resident memory as the clips grow.

    python -m benchmarks.extract [--clips=100 --clips=2000] [--modality=speech] [--config.extraction.workers=1]

Peer: the same program on the same clips when they are in memory already ("of the device's rate": clips/s over those; on
a CPU, that also counts what the decoding processes take from it). Clips come from the bundled sample, again and again
under other names. "device busy": the share of the time in which at least one batch was on the device, its result not
there yet. "resident": the largest memory of this process at each size.
"""

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

from absl import flags
from ml_collections import config_flags

from benchmarks.memory import Memory
from benchmarks.timing import seconds_of, show
from mer_jax.data.clips import Clip, Dataset
from mer_jax.data.dataset import open_dataset
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.defaults import MODALITIES
from mer_jax.features.encoders import Encoder
from mer_jax.features.extraction import dispatch, extract
from mer_jax.features.inputs import Inputs
from mer_jax.features.readers import read_all
from mer_jax.features.store import FeatureStore
from mer_jax.runtime import cli
from mer_jax.runtime.profiling import on_devices
from mer_jax.runtime.settings import read_settings
from mer_jax.settings import Settings
from mer_jax.tuning.prompts import PromptTuning

CONFIG = config_flags.DEFINE_config_file("config", "configs/semi.py", "Config file; see configs/semi.py.")
CLIPS = flags.DEFINE_multi_integer("clips", [100, 500, 2000], "Numbers of clips.")
MODALITY = flags.DEFINE_enum("modality", "speech", MODALITIES, "What is extracted; of video, CLIP on whole frames.")


def chosen_encoder(settings: Settings, dataset: Dataset) -> Encoder:
    """The encoder of --modality; transcripts without rankings."""
    prompts = PromptTuning(settings.tune, settings, dataset.labels, settings.cv.folds, Path())
    return Inputs(dataset, settings, Path(), prompts.plain_encoder).encoder(MODALITY.value, with_rankings=False)


def main() -> None:
    """The benchmark."""
    settings = read_settings(Settings, CONFIG.value)
    dataset = open_dataset(settings.variant, settings.data)
    present = [clip for clip in dataset.clips if clip.media and clip.faces]
    encoder = chosen_encoder(settings, dataset)
    embed = encoder.load()
    encoder = replace(encoder, load=lambda: embed)
    rows = []
    for count in (min(64, *CLIPS.value), *CLIPS.value):  # the first compiles and is not shown
        clips = [replace(present[i % len(present)], name=f"{i:06d}") for i in range(count)]
        folder = Path(tempfile.mkdtemp())
        busy, start = on_devices.seconds, time.perf_counter()
        with Memory() as memory:
            extract(clips, encoder, FeatureStore(folder), settings.extraction)
        busy, seconds = on_devices.seconds - busy, time.perf_counter() - start
        shutil.rmtree(folder)
        rows.append(
            {
                "clips": count,
                "clips/s": round(count / seconds, 1),
                "device busy": f"{busy / seconds:.0%}",
                "resident, MiB": round(memory.resident.max()),
            }
        )
    in_memory = rate_in_memory(clips[: settings.extraction.shard_clips], encoder, settings.extraction)
    for row in rows:
        row["of the device's rate"] = f"{row['clips/s'] / in_memory:.0%}"
    show(rows[1:], modality=MODALITY.value, workers=settings.extraction.workers, in_memory=round(in_memory, 1))


def rate_in_memory(clips: Sequence[Clip], encoder: Encoder, extraction: ExtractionSettings) -> float:
    """Clips/s without any decoding, the median of three rounds."""
    contents = list(read_all([(encoder.reader, clip) for clip in clips], extraction))
    embed = encoder.load()
    call = partial(dispatch, contents, encoder, embed, lambda done: None)
    return len(clips) / median(seconds_of(lambda: call().batches) for _ in range(3))


if __name__ == "__main__":
    cli.run(main)
