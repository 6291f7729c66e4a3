"""Media -> emotions: a finished run's ensemble on files that nobody labelled, one line per file.

    python -m mer_jax.predict --workdir=RUN --input=clip.mp4 [--input=folder] [--input=table.csv] [--text="..."]
        [--format=json|csv] [--output=FILE]
    python -m mer_jax.predict --workdir=RUN --input=talk.mp4 --timeline [--window=5 --step=2.5] [--subtitles=talk.srt]
        [--output=FOLDER]

Probabilities are calibrated (mer_jax/fusion/calibration.py). Where the run standardised within groups, a table says
which group (speaker, dialogue) a file belongs to: what the group's other files in the input are like counts. Lines come
in the order of the input, some hundred at a time, those of bad files in their places; into --output they come so that
the same command goes on where one was interrupted. In Python: `mer_jax.Recognizer`.

--timeline slides a window over each recording: a csv with a line per window, and one page beside it, without need of a
network, that plays the recording from where it lies under its emotions, faces and subtitles.
"""

from absl import flags

from mer_jax.recognition.lines import FORMATS
from mer_jax.runtime import cli

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)
INPUT = flags.DEFINE_multi_string(
    "input",
    None,
    "Media file, folder (with its subfolders) of such, or csv with the columns file (relative to it) and, optionally, "
    "text, group, start and end (seconds: a part of the file), and modalities (which of them count, as image+video).",
    required=True,
)
TEXT = flags.DEFINE_string("text", "", "Transcript of the input.")
OUTPUT = flags.DEFINE_string("output", None, "File for the lines, in place of standard output; goes on after a kill.")
FORMAT = flags.DEFINE_enum("format", None, FORMATS, "Of the lines; by default that of --output's suffix, else json.")
TIMELINE = flags.DEFINE_bool("timeline", False, "Windows over each recording: a csv and a page for each in --output.")
WINDOW = flags.DEFINE_float("window", 5.0, "Seconds of a window.", lower_bound=0.5, upper_bound=600.0)
STEP = flags.DEFINE_float("step", 2.5, "Seconds from one window to the next.", lower_bound=0.1, upper_bound=600.0)
SUBTITLES = flags.DEFINE_string(
    "subtitles", None, "What is said when: .srt, .vtt, or .txt without times; by default what lies beside a recording."
)

cli.parse_flags(__name__)

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from mer_jax.recognition.files import File, media
from mer_jax.recognition.lines import errors_in, text_of
from mer_jax.recognition.recognizer import Recognizer
from mer_jax.recognition.runs import finished_settings
from mer_jax.recognition.subtitles import Subtitles, beside, read_subtitles
from mer_jax.recognition.timeline import recognised, windows_of, write_timeline
from mer_jax.report.templates import environment
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.growing import growing
from mer_jax.runtime.kept import digest_of, digests_under
from mer_jax.runtime.progress import progress


def main() -> None:
    """The command."""
    if TEXT.value and len(INPUT.value) > 1:
        raise UsageError("--text is the transcript of one file: give a single --input with it")
    workdir = Path(WORKDIR.value)
    own = finished_settings(workdir).own_modalities
    files = [file._replace(text=TEXT.value or file.text) for file in media(INPUT.value, own)]
    if TEXT.value and len(files) > 1:
        raise UsageError(f"--text is the transcript of one file, but {INPUT.value[0]} holds {len(files)}")
    if SUBTITLES.value and (len(files) > 1 or not TIMELINE.value):
        raise UsageError("--subtitles are those of one recording: give it, and --timeline, with them")
    if TIMELINE.value:
        environment()  # or the end would tell that it lacks something
        timelines(Recognizer.load(workdir), files)
        return
    by_suffix = "csv" if Path(OUTPUT.value or "").suffix.lower() == ".csv" else "json"
    predict(Recognizer.load(workdir), files, FORMAT.value or by_suffix)


def predict(recognizer: Recognizer, files: Sequence[File], form: str) -> None:
    """Writes each file's line, a shard at a time. Raises DataError in the end if one of them has an error."""
    labels, bad = recognizer.ensemble.shape.labels, 0
    with progress("files", len(files), "file") as bar, output(files, form) as (shards_done, write):
        done = shards_done * recognizer.shard_size(files)
        bar.update(min(done, len(files)))
        for number, lines in enumerate(recognizer.shards(files[done:]), start=shards_done):
            write(text_of(lines, form, labels, first=number == 0))
            bar.update(len(lines))
            bad += sum("error" in line for line in lines)
    bad += errors_in(Path(OUTPUT.value), form, done) if OUTPUT.value else 0
    if bad:
        raise DataError(f"{bad:,} of {len(files):,} files cannot be used")


def timelines(recognizer: Recognizer, files: Sequence[File]) -> None:
    """Writes the timeline of each recording. Raises DataError in the end if one of them has none."""
    folder, taken = Path(OUTPUT.value or "timeline"), Counter[str]()
    failures = []
    for file in files:
        taken[file.path.stem] += 1
        again = f"-{taken[file.path.stem]}" if taken[file.path.stem] > 1 else ""
        place = folder / f"{file.path.stem}{again}.html"
        try:
            lies_beside = Path(SUBTITLES.value) if SUBTITLES.value else beside(file.path)
            subtitles = read_subtitles(lies_beside) if lies_beside else Subtitles()
            windows = windows_of(file, WINDOW.value, STEP.value)
            if lies_beside:
                print(f"{file.path}: subtitles from {lies_beside}", file=sys.stderr)
            with progress(file.path.name, len(windows), "window") as bar:
                moments = []
                for some in recognised(recognizer, file, windows, subtitles):
                    moments += some
                    bar.update(len(some))
        except DataError as error:
            failures.append(str(error))
            print(f"error: {error}", file=sys.stderr)
            continue
        write_timeline(place, file.path, moments, subtitles, recognizer.ensemble.shape.labels)
        print(place, flush=True)
    if failures:
        raise DataError(f"{len(failures):,} of {len(files):,} recordings have no timeline: {failures[0]}")


@contextmanager
def output(files: Sequence[File], form: str) -> Iterator[tuple[int, Callable[[str], object]]]:
    """Shards that are written already, and what writes the next: into --output, or to standard output."""
    if not OUTPUT.value:
        yield 0, partial(print, end="", flush=True)
        return
    run = digests_under(Path(WORKDIR.value), ("config.json", "checkpoints"))
    with growing(Path(OUTPUT.value), digest_of(run, form, [file.described for file in files])) as parts:
        yield len(parts.whole), parts.append


if __name__ == "__main__":
    cli.run(main)
