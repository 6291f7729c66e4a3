"""What runs, prepared sets and caches have kept, damaged file by file, and what the next start makes of it.

    python -m benchmarks.damage [--trials=200] [--seed=0] [--kept=sample,sweep]

Peer: the same start without damage. A file is cut, emptied, flipped by a bit, or replaced by another run's of its name.
Right is: named and made again, with the same results; or refused in one line that names it; or, of a file that nothing
reads any more, the same results. Wrong are other results, and tracebacks. Starts share a process (benchmarks/warm.py).
"""

import json
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from safetensors import safe_open

from benchmarks.kills import SEED
from benchmarks.timing import show
from benchmarks.warm import Warm
from mer_jax.runtime.kept import digest_of, digests_in

TRIALS = flags.DEFINE_integer("trials", 200, "Damaged files, over all that is kept and all ways.")
KEPT = flags.DEFINE_list("kept", [], "Names of the cases, such as sample or half-way sweep; all by default.")

CLIPS = ["--config.data.labelled=20", "--config.data.unlabelled=12", "--config.data.test=8"]
TINY = [
    "--config.tune.epochs=2",
    "--config.fusion.epochs=2",
    "--config.self_training.rounds=2",
    "--config.self_training.k=1",
    "--config.cv.folds=2",
    "--config.extraction.shard_clips=16",
]
RIGHT = ("named, and made again", "refused in one line", "same results, not read")
WAYS = ("cut", "emptied", "flipped", "replaced")
# What a run that is killed in its last round has not written yet.
LAST = (
    *("inventory.json", "metrics.json", "fusion.json", "report", "predictions", "self_training/round-02.json"),
    *(f"checkpoints/{name}" for name in ("ensemble", "ensemble.files.json", "ensemble.json")),
    "checkpoints/standardiser.safetensors",
)
CLOCKS = ("timing", "device_busy", "peak_memory_gib", "environment")  # in metrics.json


@dataclass(frozen=True)
class Case:
    """Something kept, and the start that meets it."""

    name: str
    share: int  # of the trials
    whole: Path
    other: Path  # of the same kind
    under: str  # the part of `whole` that is damaged
    command: Callable[[Path, Path], tuple[list[str], dict[str, str]]]  # (its copy, a new folder) -> what is started
    in_copy: bool  # whether the results are in the copy, or in the new folder

    def kinds(self) -> dict[str, list[Path]]:
        """Kind of file -> names below `whole`."""
        kinds = defaultdict(list)
        for path in sorted((self.whole / self.under).rglob("*")):
            if path.is_file() and path.name != ".lock" and path.stat().st_size:
                kinds[kind_of(path.relative_to(self.whole))].append(path.relative_to(self.whole))
        return kinds


def kind_of(name: Path) -> str:
    """A file's kind: its folder, and what its name ends in."""
    folder = name.parts[: 2 if name.parts[0] in ("checkpoints", "sweeps") else 1]
    text = "/".join(folder) if len(name.parts) > len(folder) else name.as_posix()
    text = re.sub(r"-[0-9a-f]{8,}|\d+", "#", text)
    return text if text.endswith(name.suffix) else f"{text}/*{re.sub('[0-9]+', '#', name.suffix)}"


def damage(path: Path, way: str, other: Path, rng: np.random.Generator) -> None:
    """Damages a file. other: of another run."""
    content = path.read_bytes()
    match way:
        case "cut":
            path.write_bytes(content[: int(rng.integers(len(content)))] if content else b"")
        case "emptied":
            path.write_bytes(b"")
        case "flipped" if content:
            place = int(rng.integers(len(content)))
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << rng.integers(8)]) + content[place + 1 :])
        case "replaced" if other.is_file():
            shutil.copyfile(other, path)


def other_file(run: Path, name: Path) -> Path:
    """The file of another run in this one's place; names of folders tell what made them, and differ."""
    pattern = "/".join(re.sub(r"-[0-9a-f]{8,}", "-*", part) for part in name.parts)
    return next((path for path in sorted(run.glob(pattern)) if path.is_file()), run / "none")


def outcome(code: int, output: str, name: Path, same: bool) -> str:
    """A trial's outcome in words. output: all that the start printed. same: whether its results are."""
    names = [name.as_posix(), name.name]
    names += [Path(*name.parts[:depth]).as_posix() for depth in (2, 3) if name.parts[0] == "checkpoints"]  # as a whole
    names += ["holds a run with other settings"] * (name.name == "config.json")
    names += [f"of its {split} split" for split in re.findall(r"-(\w+)\.array_record", name.name)]  # its record
    named = any(re.search(re.escape(each) + r"(: | is not | cannot | first| \()", output) for each in names)
    if "Traceback" in output:
        return "traceback"
    if code:
        errors = [line for line in output.splitlines() if "error: " in line]
        return "refused in one line" if len(errors) == 1 and named else "refused, and not named"
    if not same:
        return "named, and other results" if named else "used in silence"
    return "named, and made again" if named else "same results, not read"


def results(folder: Path, new: bool) -> dict[str, Any]:
    """What a start has come to: tables and metrics; in a new folder crops and features, too, wherever they stand."""
    tables = (path for pattern in ("*.csv", "predictions/*", "sweeps/*/results.*") for path in folder.glob(pattern))
    content: dict[str, Any] = digests_in(folder, [*tables, *(folder.glob("faces/*/*.npy") if new else ())])
    for store in folder.glob("features/*") if new else ():
        content[store.name] = sorted(row for path in store.glob("*.safetensors") for row in rows_of(path))
    if (metrics := folder / "metrics.json").exists():
        content |= {key: value for key, value in json.loads(metrics.read_text("utf-8")).items() if key not in CLOCKS}
    return content


def rows_of(path: Path) -> list[str]:
    """Digests of a shard's rows, and the reasons of those that are absent."""
    with safe_open(path, "np") as shard:
        reasons = [str(reason) for _, reason in json.loads(shard.metadata()["shard"])["rows"] if reason is not None]
        return [digest_of(row.tobytes()) for row in shard.get_tensor("embeddings")] + reasons


class Trials:
    """Trials in a scratch folder, in a process that is new now and then."""

    def __init__(self, scratch: Path, rng: np.random.Generator):
        self.scratch, self.rng, self.log = scratch, rng, scratch / "log"
        self.warm, self.count = Warm(), 0

    def start(self, command: Sequence[str], **environment: str) -> str:
        """A start that must end well; what it printed."""
        code, output = self.warm.start(command, self.log, **environment), self.log.read_text("utf-8")
        assert code == 0, output
        return output

    def trial(self, case: Case, name: Path | None = None, way: str = "") -> tuple[int, str, dict[str, Any]]:
        """Damages a file of a copy, and starts: exit code, what was printed, and results."""
        self.count += 1
        copy, new = self.scratch / f"copy-{self.count}", self.scratch / f"new-{self.count}"
        shutil.copytree(case.whole, copy)
        if name:
            damage(copy / name, way, other_file(case.other, name), self.rng)
        command, environment = case.command(copy, new)
        code = self.warm.start(command, self.log, **environment)
        found = {} if code else results(copy if case.in_copy else new, not case.in_copy)
        for folder in (copy, new):
            shutil.rmtree(folder, ignore_errors=True)
        return code, self.log.read_text("utf-8"), found

    def rows(self, case: Case, count: int) -> Iterable[dict[str, str]]:
        """`count` trials of a case, each kind of file and each way about as often."""
        code, output, expected = self.trial(case)
        assert code == 0 and expected, output
        kinds = case.kinds()
        pairs = [(kind, way) for kind in kinds for way in WAYS]
        for i in range(count):
            if i % len(pairs) == 0:
                order = self.rng.permutation(len(pairs))
            kind, way = pairs[order[i % len(pairs)]]
            name = kinds[kind][int(self.rng.integers(len(kinds[kind])))]
            code, output, found = self.trial(case, name, way)
            row = {"kept": case.name, "file": str(name), "kind": kind, "damage": way}
            yield row | {"outcome": outcome(code, output, name, found == expected), "said": last_line(output)}


def last_line(output: str) -> str:
    """The error, or what was made again."""
    lines = [line.strip() for line in output.splitlines() if "error: " in line or "made a" in line or "again" in line]
    return lines[-1][-160:] if lines else ""


def cases(trials: Trials) -> list[Case]:
    """All that is kept, by undisturbed starts, each with one of the same kind beside it."""
    scratch, config = trials.scratch, ["--config=configs/semi.py", *CLIPS, *TINY]
    caches = [scratch / "cache", scratch / "other-cache"]
    runs = [scratch / "run", scratch / "other-run"]
    swept = [scratch / "swept", scratch / "other-swept"]
    sets = [scratch / "set", scratch / "other-set"]
    sweep = ["mer_jax.sweep", "--config=configs/table2.py", "--config.seeds=1"]
    for i, (cache, run, prepared) in enumerate(zip(caches, runs, sets, strict=True)):
        own = [*config, *[f"--config.data.test={8 + 2 * i}"]]
        trials.start(["mer_jax.train", *own, f"--config.seed={i}", f"--workdir={run}"], MER_JAX_CACHE=str(cache))
        shutil.copytree(run, swept[i])
        trials.start([*sweep, f"--workdir={swept[i]}"])
        trials.start(["mer_jax.prepare", *own, "--config.prepare.shard_clips=8", f"--output={prepared}"])
    next(caches[1].glob("sample-*")).rename(caches[1] / next(caches[0].glob("sample-*")).name)
    half, half_swept = scratch / "half", scratch / "half-swept"
    shutil.copytree(runs[0], half)
    for late in (half / name for name in LAST):
        shutil.rmtree(late) if late.is_dir() else late.unlink()
    shutil.copytree(swept[0], half_swept)
    for late in (*half_swept.glob("sweeps/*/r*/rows.json"), *half_swept.glob("sweeps/*/results.*")):
        late.unlink()
    version = next(sets[0].glob("mer/*/*")).relative_to(sets[0])
    own_cache = {"MER_JAX_CACHE": str(caches[0])}

    def train(copy: Path, new: Path) -> tuple[list[str], dict[str, str]]:
        return ["mer_jax.train", *config, f"--workdir={copy}"], own_cache

    def sweep_again(copy: Path, new: Path) -> tuple[list[str], dict[str, str]]:
        return [*sweep, f"--workdir={copy}"], own_cache

    def train_prepared(copy: Path, new: Path) -> tuple[list[str], dict[str, str]]:
        variant = f"--config=configs/semi.py:prepared,encoders=bundled,root={copy / version}"
        return ["mer_jax.train", variant, *TINY, f"--workdir={new}"], own_cache

    def extract_prepared(copy: Path, new: Path) -> tuple[list[str], dict[str, str]]:
        command, environment = train_prepared(copy, new)
        return ["mer_jax.extract", *command[1:]], environment

    def extract(copy: Path, new: Path) -> tuple[list[str], dict[str, str]]:
        return ["mer_jax.extract", *config, f"--workdir={new}"], {"MER_JAX_CACHE": str(copy)}

    return [
        Case("finished run", 64, runs[0], runs[1], "", train, True),
        Case("half-way run", 56, half, runs[1], "", train, True),
        Case("sweep", 10, swept[0], swept[1], "sweeps", sweep_again, True),
        Case("half-way sweep", 12, half_swept, swept[1], "sweeps", sweep_again, True),
        Case("prepared set", 24, sets[0], sets[1], str(version), extract_prepared, False),
        Case("prepared set, train", 4, sets[0], sets[1], str(version), train_prepared, False),
        Case("sample", 16, caches[0], caches[1], next(caches[0].glob("sample-*")).name, extract, False),
        Case("answers", 12, caches[0], caches[1], "rankings", extract, False),
    ]


def main(_: list[str]) -> None:
    """The benchmark."""
    rows: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as name:
        trials = Trials(Path(name), np.random.default_rng(SEED.value))
        everything = [case for case in cases(trials) if not KEPT.value or case.name in KEPT.value]
        for case in everything:
            for row in trials.rows(case, round(TRIALS.value * case.share / sum(each.share for each in everything))):
                print(json.dumps(row), flush=True)
                rows.append(row)
        trials.warm.close()
    tables: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        tables[row["kept"], row["kind"]][row["outcome"]] += 1
    outcomes = Counter(row["outcome"] for row in rows)
    show(
        [
            {"kept": kept, "kind": kind} | {each: counts[each] for each in outcomes}
            for (kept, kind), counts in tables.items()
        ],
        trials=len(rows),
        outcomes=dict(outcomes),
    )


if __name__ == "__main__":
    app.run(main)
