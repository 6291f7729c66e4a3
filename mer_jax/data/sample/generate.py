"""Writes the bundled sample: a data set in the MER2024 layout, of drawn and synthesised clips.

Nothing here imports JAX: the workers, a Python each, start in half a second.
"""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mer_jax.data.sample.clip import write_clip
from mer_jax.data.sample.plan import ClipPlan, SampleSpec, draw_cast, draw_plans
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import load_json
from mer_jax.runtime.kept import Damaged, changed_in, digests_in, keep, listed_files, make_again, usable
from mer_jax.runtime.scratch import LOCK, scratch_folder
from mer_jax.runtime.signals import signals_blocked

STAMP = "sample.json"
FILES = "files.json"  # the checksums of all others
MOST_WORKERS = 16


def is_written(root: Path, spec: SampleSpec) -> bool:
    """Whether `root` holds a whole sample of this spec by this generator; a line says where it is damaged."""
    if read_stamp(root) != make_stamp(spec):
        if root.exists():
            make_again(Damaged(f"{root / STAMP}: not of this sample and generator"))
        return False
    checksums = usable(root / FILES, parse=listed_files) or {}
    if changed := changed_in(root, checksums):
        make_again(Damaged(f"{root}: {len(changed):,} files are not as they were written, {changed[0]} first"))
    return bool(checksums) and not changed


def write_sample(root: Path, spec: SampleSpec, advance: Callable[[int], object]) -> Path:
    """Writes the sample into `root`, which then holds all of it or, after a kill, none of it; returns `root`.

    A sample of the same spec by the same generator is left as it is, another one is replaced. The counts of
    `spec` are rows of its csv files; the truth about candidates is in `label-test.csv` and
    `label-unlabeled.csv`, for scoring.

    Args:
      advance: called with numbers of clips as they get done; their sum is `spec.total`.

    Raises:
      DataError: `root` exists and is no sample.
    """
    stamp = make_stamp(spec)
    if is_written(root, spec):
        advance(spec.total)
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    remove_outdated(root)
    with scratch_folder(f".{root.name}.", root.parent) as partial:
        fill(partial, spec, advance)
        (partial / LOCK).unlink()
        partial.chmod(0o755)  # mkdtemp's folders are private
        try:
            partial.rename(root)
        except OSError:
            if read_stamp(root) != stamp:  # else another process was faster
                raise
    return root


def fill(partial: Path, spec: SampleSpec, advance: Callable[[int], object]) -> None:
    """Writes all files of a sample; arguments as of `write_sample`."""
    (partial / STAMP).write_text(json.dumps(make_stamp(spec), indent=2) + "\n", encoding="utf-8")
    write_tables(partial, draw_plans(spec))
    run_workers(partial, min(os.cpu_count() or 1, MOST_WORKERS), advance)
    files = (path for path in partial.rglob("*") if path.name != LOCK)
    keep(partial / FILES, {"files": digests_in(partial, files)}, own=True)  # in a cache that hosts may not share


def make_stamp(spec: SampleSpec) -> dict[str, Any]:
    """What a whole sample says about itself: its spec, and a digest of the generator's source."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.[pj]*")):  # .py, .json
        digest.update(path.read_bytes())
    return {"spec": asdict(spec), "generator": digest.hexdigest()[:16]}


def read_stamp(root: Path) -> dict[str, Any] | None:
    """The stamp of the sample in `root`, None if there is none."""
    try:
        return load_json(root / STAMP)
    except DataError:
        return None


def remove_outdated(root: Path) -> None:
    """Removes another sample from `root`; moves it first, so that no one meets half of it."""
    if not root.exists():
        return
    if not (root / STAMP).exists() and any(root.iterdir()):
        raise DataError(f"{root}: holds no sample; remove it, or let the sample be written elsewhere")
    trash = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    with suppress(FileNotFoundError):  # another process was faster
        root.rename(trash / root.name)
    shutil.rmtree(trash)


def write_tables(root: Path, plans: Sequence[ClipPlan]) -> None:
    """The four csv files."""
    by_split = {split: [p for p in plans if p.split == split] for split in ("train", "unlabeled", "test")}
    labels = [(p.name, p.emotion, p.valence) for p in by_split["train"]]
    write_csv(root / "label-disdim.csv", ("name", "discrete", "valence"), labels)
    for split in ("unlabeled", "test"):
        truth = [(p.name, p.emotion) for p in by_split[split]]
        write_csv(root / f"label-{split}.csv", ("name", "discrete"), truth)
    transcripts = [(p.name, p.chinese, p.english) for p in plans]
    write_csv(root / "label-transcription.csv", ("name", "chinese", "english"), transcripts)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def run_workers(root: Path, count: int, advance: Callable[[int], object]) -> None:
    """Lets `count` processes make the clips.

    They are fresh interpreters, not multiprocessing's: those would import the main module, and with it JAX.
    All write one byte per clip into one pipe; its end tells that all are done, and a worker whose parent is
    gone ends at its next byte.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    receive, send = os.pipe()
    with ExitStack() as stack:
        command = [sys.executable, "-m", __name__, str(root), str(count)]
        with signals_blocked():
            workers = [
                stack.enter_context(subprocess.Popen([*command, str(rank)], stdout=send, env=environment))
                for rank in range(count)
            ]
        os.close(send)
        done = stack.enter_context(open(receive, "rb", buffering=0))
        while block := done.read(4096):
            advance(len(block))
    if any(worker.returncode for worker in workers):
        raise RuntimeError(f"{root}: a worker could not make its clips; see the error above")


def work(root: Path, count: int, rank: int) -> None:
    """Makes every `count`-th clip of the sample whose stamp is in `root`."""
    spec = SampleSpec(**json.loads((root / STAMP).read_text(encoding="utf-8"))["spec"])
    cast = draw_cast(spec)
    for plan in draw_plans(spec)[rank::count]:
        write_clip(root, plan, cast[plan.person])
        try:
            os.write(sys.stdout.fileno(), b".")
        except BrokenPipeError:
            sys.exit(1)


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
