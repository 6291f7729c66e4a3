"""Which small wrong edits would no test notice? A development tool, no part of the suite.

    python -m tests.mutate [--only='mer_jax/text/*'] [--jobs=1]

Tries the edits of `tests/mutations/*.toml` one at a time in a copy of the tree, runs the tests nearest to each, and
prints what survived. They are slips that a later editor could make, written by hand:

    [[edit]]
    slip = "the answer cache ignores the model"   # what goes wrong, in words
    file = "mer_jax/text/cache.py"
    find = "..."                                  # stands in the file exactly once
    replace = "..."
    tests = ["tests/text/test_cache.py"]          # files or node ids; default: the mirrored file

An edit whose text is no longer there is an error, so that the list keeps up with the code. mutmut and cosmic-ray make
edits by a fixed set of operators and take none written by hand; cosmic-ray also edits the working tree itself.

Exit code 1 if more than 1 edit in 20 survives, or one does not apply; 2 if the tests fail without any edit.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).parents[1]
PYTEST = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
PYTEST += ["-o", "addopts=--import-mode=importlib"]
TIMEOUT = 600  # seconds; an edit whose tests hang is noticed, too
MOST = 1 / 20  # share of edits that may survive


@dataclass(frozen=True)
class Edit:
    slip: str
    file: str
    find: str
    replace: str
    tests: list[str] = field(default_factory=list)

    @property
    def nearest(self) -> list[str]:
        """The tests that should notice."""
        path = Path(self.file)
        return self.tests or [str(Path("tests", *path.parts[1:-1], f"test_{path.name}"))]


def copy_tree(folder: Path) -> Path:
    """A copy of all files that git knows or would add."""
    names = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, text=True)
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def passes(tree: Path, tests: list[str], timeout: float | None = None) -> bool:
    """Whether the tests pass in a tree. No bytecode is kept: two edits within a second look alike to Python's cache."""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run([*PYTEST, *tests], cwd=tree, env=environment, capture_output=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode > 2:
        raise SystemExit(f"{tests}: pytest could not run them\n{done.stdout.decode()}{done.stderr.decode()}")
    return done.returncode == 0


def attempt(tree: Path, edit: Edit) -> str:
    """What becomes of an edit: "killed", "survived" or "does not apply"."""
    path = tree / edit.file
    before = path.read_text("utf-8") if path.exists() else ""
    if before.count(edit.find) != 1 or edit.find == edit.replace:
        return "does not apply"
    path.write_text(before.replace(edit.find, edit.replace), "utf-8")
    try:
        return "survived" if passes(tree, edit.nearest, TIMEOUT) else "killed"
    finally:
        path.write_text(before, "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", help="glob of the edited files")
    parser.add_argument("--jobs", type=int, default=1, help="edits tried side by side")
    options = parser.parse_args()
    lists = [tomllib.loads(path.read_text("utf-8")) for path in sorted((ROOT / "tests/mutations").glob("*.toml"))]
    edits = [
        Edit(**entry) for content in lists for entry in content["edit"] if fnmatchcase(entry["file"], options.only)
    ]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.jobs):
            trees.put(copy_tree(Path(folder, str(number))))

        def timed(edit: Edit) -> str:
            tree, start = trees.get(), time.monotonic()
            outcome = attempt(tree, edit)
            trees.put(tree)
            print(f"{outcome:14} {time.monotonic() - start:4.0f} s  {edit.file}: {edit.slip}", flush=True)
            return outcome

        if edits and not passes(Path(folder, "0"), sorted({test for edit in edits for test in edit.nearest})):
            print("the tests fail without any edit")
            raise SystemExit(2)
        outcomes = list(pool.map(timed, edits))
    counts = {outcome: outcomes.count(outcome) for outcome in ("killed", "survived", "does not apply")}
    print(f"{len(edits)} edits: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()), end="")
    print(f" ({100 * counts['survived'] / max(len(edits), 1):.1f} % survived)")
    raise SystemExit(counts["survived"] > MOST * len(edits) or counts["does not apply"] > 0)


if __name__ == "__main__":
    main()
