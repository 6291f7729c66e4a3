"""A data set looked over, or prepared once so that every later run reads it fast.

    python -m mer_jax.prepare --config=configs/semi.py:mer2024,root=DIR --check          what is wrong with it
    python -m mer_jax.prepare --config=configs/semi.py:mer2024,root=DIR --preview=PNG    the faces that would be cut
    python -m mer_jax.prepare --config=configs/semi.py:mer2024,root=DIR --output=DIR     clips -> TFDS (ArrayRecord)
    python -m mer_jax.train --config=configs/semi.py:prepared,root=DIR/mer/NAME/1.0.0    trains on what came out

Interrupted, preparing goes on with the next shard. Several hosts write it together with --distributed.
"""

from absl import flags

from mer_jax.runtime import cli
from mer_jax.runtime.cluster import DISTRIBUTED, join_hosts
from mer_jax.settings import Settings

CONFIG = cli.config_flag()
CHECK = flags.DEFINE_bool("check", False, "Open every media file, and report all that is wrong with the data set.")
PREVIEW = flags.DEFINE_string("preview", None, "PNG file for a contact sheet of a few clips' face crops.")
PREVIEW_CLIPS = flags.DEFINE_integer("preview_clips", 8, "Clips on the contact sheet.")
OUTPUT = flags.DEFINE_string("output", None, "TFDS data folder to prepare the data set into.")
BEAM = flags.DEFINE_string("beam", None, "Apache Beam runner that prepares, such as DirectRunner.")


def wrong() -> str:
    """What is wrong with the flags together; empty if nothing is."""
    if CONFIG.value is None:
        return cli.NO_CONFIG
    if BEAM.value and DISTRIBUTED.value:
        return "--beam spreads the work by itself: leave out --distributed"
    chosen = CHECK.value or PREVIEW.value or OUTPUT.value
    return "" if chosen else "nothing to do: give --check, --preview=PNG or --output=DIR"


cli.parse_flags(__name__, Settings, wrong)

import re
import sys
from functools import partial
from pathlib import Path

from mer_jax.data import check
from mer_jax.data.clips import Dataset
from mer_jax.data.crops import cut_faces
from mer_jax.data.dataset import RootData, open_dataset
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.data.faces import FACE_SIZE
from mer_jax.data.prepared import ENCODERS
from mer_jax.data.preview import contact_sheet, preview_rows, previewed_clips
from mer_jax.data.records import RecordSettings
from mer_jax.runtime.findings import Finding, tell
from mer_jax.runtime.hosts import first_host_first, is_first_host
from mer_jax.runtime.kept import keep
from mer_jax.runtime.lock import hold
from mer_jax.runtime.progress import progress
from mer_jax.runtime.settings import as_dict, read_settings
from mer_jax.runtime.terminal import harmless


def main() -> None:
    """The command."""
    join_hosts()
    settings = read_settings(Settings, CONFIG.value)
    opened, findings = None, list[Finding]()
    with first_host_first("data"):
        if CHECK.value:
            from mer_jax.preflight import look_over  # brings all models

            opened, findings = look_over(settings, Path(f"runs/{settings.variant}"), settings.encoded)
            if opened is None and any(finding.stops for finding in findings):
                tell(findings)
        dataset = opened or open_dataset(settings.variant, settings.data, settings.ready_made, settings.own_modalities)
    if CHECK.value and is_first_host():
        print_check(dataset, settings.extraction)
    if PREVIEW.value and is_first_host():
        preview(dataset, settings.extraction, Path(PREVIEW.value), PREVIEW_CLIPS.value)
    if OUTPUT.value:
        prepare(dataset, settings, Path(OUTPUT.value).expanduser(), BEAM.value)
    tell(findings)


def print_check(dataset: Dataset, settings: ExtractionSettings) -> None:
    """The report of `--check`, on standard output."""
    with progress("media files", sum(clip.media is not None for clip in dataset.clips), "file") as bar:
        problems = list(check.probe_media(dataset.clips, settings.workers, settings.time_limit, bar.update))
    print("\n".join(map(harmless, check.report(dataset, problems))))


def preview(dataset: Dataset, settings: ExtractionSettings, path: Path, count: int) -> None:
    """The contact sheet of `--preview`, and its captions on standard output."""
    rows = preview_rows(previewed_clips(dataset.clips, count), partial(cut_faces, settings=settings))
    contact_sheet(path, rows, FACE_SIZE)
    print("\n".join(caption for caption, _ in rows))


def prepare(dataset: Dataset, settings: Settings, output: Path, beam_runner: str | None) -> None:
    """Clips -> TFDS; prints the folder to train from."""
    from mer_jax.data.builder import Mer  # brings tensorflow_datasets

    hold(output, "--output")
    print("\n".join(map(harmless, check.overview(dataset))), file=sys.stderr)
    name = re.sub(r"\W+", "_", dataset.name).strip("_") or "clips"
    root = settings.data.root if isinstance(settings.data, RootData) else "."
    with progress("prepared", len(dataset.clips), "clip") as bar:
        records = RecordSettings(settings.prepare, settings.extraction)
        version = Mer(name, dataset, records, output, bar.update).build(Path(root), beam_runner)
    keep(version / ENCODERS, {modality: each["source"] for modality, each in as_dict(settings.encoders).items()})
    print(version)


if __name__ == "__main__":
    cli.run(main)
