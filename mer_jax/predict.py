"""Media -> emotions: a finished run's ensemble on files that nobody labelled, one line per file.

    python -m mer_jax.predict --workdir=RUN --input=clip.mp4 [--input=folder] [--input=table.csv] [--text="..."]
        [--format=json|csv] [--output=FILE]
    python -m mer_jax.predict --workdir=RUN --input=talk.mp4 --timeline=FOLDER [--subtitles=talk.srt]

Probabilities are calibrated (mer_jax/fusion/calibration.py). Where the run standardised within groups, a table says
which group (speaker, dialogue) a file belongs to: what the group's other files in the input are like counts. Lines come
in the order of the input, some hundred at a time, those of bad files in their places; into --output they come so that
the same command goes on where one was interrupted. In Python: `mer_jax.Recognizer`.
"""

from absl import flags

from mer_jax.recognition.lines import FORMATS
from mer_jax.runtime import cli

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)
INPUT = flags.DEFINE_multi_string(
    "input",
    None,
    "Media file, folder (with its subfolders) of such, or csv with the columns file (relative to it) and, optionally, "
    "text, group, start and end (seconds: a part of the file).",
    required=True,
)
TEXT = flags.DEFINE_string("text", "", "Transcript of the input.")
OUTPUT = flags.DEFINE_string("output", None, "File for the lines, in place of standard output; goes on after a kill.")
FORMAT = flags.DEFINE_enum("format", None, FORMATS, "Of the lines; by default that of --output's suffix, else json.")

cli.parse_flags(__name__)

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from mer_jax.recognition.files import File, media
from mer_jax.recognition.lines import errors_in, text_of
from mer_jax.recognition.recognizer import Recognizer
from mer_jax.recognition.runs import finished_settings
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.growing import growing
from mer_jax.runtime.kept import digest_of, digests_under
from mer_jax.runtime.progress import progress


def main() -> None:
    """The command."""
    if TEXT.value and len(INPUT.value) > 1:
        raise UsageError("--text is the transcript of one file: give a single --input with it")
    workdir = Path(WORKDIR.value)
    finished_settings(workdir)
    files = [file._replace(text=TEXT.value or file.text) for file in media(INPUT.value)]
    if TEXT.value and len(files) > 1:
        raise UsageError(f"--text is the transcript of one file, but {INPUT.value[0]} holds {len(files)}")
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
