"""Media -> emotions: a finished run's ensemble on files that nobody labelled, one JSON line per file.

    python -m mer_jax.predict --workdir=RUN --input=clip.mp4 [--input=folder] [--input=table.csv] [--text="..."]
        [--output=FILE]

Probabilities are calibrated (mer_jax/fusion/calibration.py). Where the run standardised within groups, a table says
which group (speaker, dialogue) a file belongs to: what the group's other files in the input are like counts. Into
--output the lines come a shard at a time, and the same command goes on where one was interrupted.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from mer_jax.data.clip_files import MEDIA_SUFFIXES, is_media, located, no_media
from mer_jax.data.clips import Clip, Dataset
from mer_jax.data.decoding import identity
from mer_jax.data.labels import UNSAID, is_missing
from mer_jax.data.streams import check_media
from mer_jax.data.tables import read_table
from mer_jax.data.workers import map_in_workers
from mer_jax.features.inputs import Inputs
from mer_jax.features.outliers import without_outliers
from mer_jax.fusion.ensemble import TrainedEnsemble
from mer_jax.runtime import cli
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.files import printable
from mer_jax.runtime.growing import growing
from mer_jax.runtime.inventory import require_results
from mer_jax.runtime.kept import digest_of, digests_in
from mer_jax.runtime.run import load_settings
from mer_jax.runtime.scratch import scratch_folder
from mer_jax.runtime.settings import as_dict
from mer_jax.settings import Settings
from mer_jax.tuning.prompts import PromptTuning

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)
INPUT = flags.DEFINE_multi_string(
    "input",
    None,
    "Media file, folder of media files, or csv with the columns file (relative to it) and, optionally, text and group.",
    required=True,
)
TEXT = flags.DEFINE_string("text", "", "Transcript of the input.")
OUTPUT = flags.DEFINE_string("output", None, "File for the lines, in place of standard output; goes on after a kill.")


class File(NamedTuple):
    """A media file, and what is known of it."""

    path: Path
    text: str = ""
    group: str | None = None


def main() -> None:
    """The command."""
    workdir = Path(WORKDIR.value)
    settings = load_settings(Settings, workdir)
    require_results(workdir)
    ensemble = TrainedEnsemble(workdir / "checkpoints")
    if TEXT.value and len(INPUT.value) > 1:
        raise UsageError("--text is the transcript of one file: give a single --input with it")
    files = [file._replace(text=TEXT.value or file.text) for file in media(INPUT.value)]
    if TEXT.value and len(files) > 1:
        raise UsageError(f"--text is the transcript of one file, but {INPUT.value[0]} holds {len(files)}")
    readable, unreadable = [], list[dict[str, Any]]()
    limit = settings.extraction.time_limit
    reasons = map_in_workers(check_media, [file.path for file in files], lambda _: limit)
    for file, reason in zip(files, reasons, strict=True):
        if reason is None:
            readable.append(file)
        else:
            unreadable.append({"file": printable(file.path), "error": str(reason)})
    parts = [lambda: unreadable, *parts_of(workdir, settings, ensemble, readable)]
    if OUTPUT.value:
        made_of = digest_of(as_dict(settings), digests_in(workdir / "checkpoints"), described(files))
        with growing(Path(OUTPUT.value), made_of) as output:
            for part in parts[len(output.whole) :]:
                output.append("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in part()))
    else:
        for part in parts:
            for line in part():
                print(json.dumps(line, ensure_ascii=False))
    if len(readable) < len(files):
        raise DataError(f"{len(files) - len(readable)} of {len(files)} files cannot be decoded")


def described(files: Sequence[File]) -> list[Any]:
    """All that is known of files, and what their content is named by."""
    return [(printable(file.path), identity(file.path), file.text, file.group) for file in files]


def parts_of(
    workdir: Path, settings: Settings, ensemble: TrainedEnsemble, files: Sequence[File]
) -> Iterator[Callable[[], Iterator[dict[str, Any]]]]:
    """`predict` for one shard of files after the other; for all at once where a file's group counts."""
    grouped = ensemble.shape.in_groups and any(file.group for file in files)
    size = len(files) if grouped else settings.extraction.shard_clips
    for start in range(0, len(files), size or 1):
        yield partial(predict, workdir, settings, ensemble, files[start : start + size])


def media(inputs: Sequence[str]) -> Iterator[File]:
    """The media files that the inputs name."""
    for entry in map(Path, inputs):
        if entry.is_dir():
            files = [path for path in sorted(entry.iterdir()) if is_media(path)]
            if others := no_media(entry):
                print(f"{entry}: {others}", file=sys.stderr)
            if not files:
                suffixes = f".mp4, .wav and {len(MEDIA_SUFFIXES) - 2} other suffixes"
                raise DataError(f"{entry}: no media file in it (looked for {suffixes})")
            yield from map(File, files)
        elif entry.suffix.lower() == ".csv":
            for row in read_table(entry, ("file",), ("text", "group")):
                text, group = row.get("text", ""), row.get("group", "")
                spoken, known = "" if text in UNSAID else text, None if is_missing(group) else group
                yield File(located(entry.parent, row["file"]), spoken, known)
        elif entry.exists():
            yield File(entry)
        else:
            raise DataError(f"{entry}: no such file or folder")


def predict(
    workdir: Path, settings: Settings, ensemble: TrainedEnsemble, files: Sequence[File]
) -> Iterator[dict[str, Any]]:
    """For each file: label, probabilities, attention per modality, what was used and why the rest was not.

    workdir: of a finished run, whose settings and ensemble these are.
    """
    labels, track = ensemble.shape.labels, settings.data.audio_track
    clips = tuple(
        Clip(f"{i:06d}", "test", file.path, transcript=file.text, group=file.group, audio_track=track)
        for i, file in enumerate(files)
    )
    prompts = PromptTuning(settings.tune, settings, labels, ensemble.shape.num_folds, workdir)
    with scratch_folder("mer_jax-predict-") as scratch:
        inputs = Inputs(Dataset("input", labels, clips, {}), settings, scratch, prompts.trained_encoder)
        sizes = ensemble.shape.usual_sizes
        features = {m: without_outliers(inputs.features(m), m, sizes.get(m, 0.0)) for m in ensemble.shape.dims}
        present = {modality: x.present for modality, x in features.items()}
        embeddings = {  # where no clip has any, which tells no width, zeros of the ensemble's
            modality: x.embeddings
            if x.present.any()
            else np.zeros((len(files), ensemble.shape.dims[modality]), np.float32)
            for modality, x in features.items()
        }
        probs, attention = ensemble(embeddings, present, [clip.group for clip in clips])
    for i, file in enumerate(files):
        yield {
            "file": printable(file.path),
            "label": labels[int(probs[i].argmax())],
            "probabilities": {label: round(float(p), 4) for label, p in zip(labels, probs[i], strict=True)},
            "attention": {m: round(float(a), 4) for m, a in zip(features, attention[i], strict=True)},
            "used": [modality for modality, x in features.items() if x.present[i]],
            "absent": {modality: x.reasons[i] for modality, x in features.items() if i in x.reasons},
        }


if __name__ == "__main__":
    cli.run(main)
