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
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).parents[1]
PYTEST = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
TIMEOUT = 900  # seconds; an edit whose tests hang is noticed, too
MOST = 1 / 20  # share of edits that may survive


def copy_tree(folder: Path) -> Path:
    """A copy of all files that git knows or would add."""
    names = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, text=True)
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def nearest(edit: dict[str, Any]) -> list[str]:
    """The tests that should notice."""
    path = Path(edit["file"])
    return edit.get("tests") or [str(Path("tests", *path.parts[1:-1], f"test_{path.name}"))]


def failing(tree: Path, tests: list[str], timeout: float | None) -> str:
    """What pytest says of tests that fail in a tree; "" if they pass.

    No bytecode is kept: to Python's cache two edits of one length within a second are the same.
    """
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [*PYTEST, "-o", "addopts=--import-mode=importlib", *tests]
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return "too slow"
    return done.stdout + done.stderr if done.returncode else ""


def attempt(tree: Path, edit: dict[str, Any]) -> str:
    """What becomes of an edit."""
    path = tree / edit["file"]
    before = path.read_text("utf-8") if path.exists() else ""
    if before.count(edit["find"]) != 1 or edit["find"] == edit["replace"]:
        return "does not apply"
    after = before.replace(edit["find"], edit["replace"])
    compile(after, edit["file"], "exec")  # what no Python reads, every test would notice
    path.write_text(after, "utf-8")
    try:
        return "killed" if failing(tree, nearest(edit), TIMEOUT) else "survived"
    finally:
        path.write_text(before, "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", help="glob of the edited files")
    parser.add_argument("--jobs", type=int, default=1, help="edits tried side by side")
    options = parser.parse_args()
    lists = [tomllib.loads(path.read_text("utf-8")) for path in sorted((ROOT / "tests/mutations").glob("*.toml"))]
    edits = [edit for entries in lists for edit in entries["edit"] if fnmatchcase(edit["file"], options.only)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.jobs):
            trees.put(copy_tree(Path(folder, str(number))))

        def report(edit: dict[str, Any]) -> str:
            tree = trees.get()
            outcome = attempt(tree, edit)
            trees.put(tree)
            print(f"{outcome:14}  {edit['file']}: {edit['slip']}", flush=True)
            return outcome

        tests = sorted({test for edit in edits for test in nearest(edit)})
        if edits and (reason := failing(Path(folder, "0"), tests, timeout=None)):
            print(reason, "the tests fail without any edit", sep="\n", file=sys.stderr)
            raise SystemExit(2)
        outcomes = Counter(pool.map(report, edits))
    shares = ", ".join(f"{outcomes[name]} {name}" for name in ("killed", "survived", "does not apply"))
    print(f"{len(edits)} edits: {shares}; {100 * outcomes['survived'] / max(len(edits), 1):.1f} % survived")
    raise SystemExit(int(outcomes["survived"] > MOST * len(edits) or outcomes["does not apply"] > 0))


if __name__ == "__main__":
    main()
