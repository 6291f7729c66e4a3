"""Inputs made to do harm: each writes its files into a folder of its own and says which command is to meet them."""

import csv
import io
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]


class Place(NamedTuple):
    """Where an input is made, and what it may use."""

    folder: Path  # its own
    media: Path  # a whole mp4
    run: Path  # a finished run
    prepared: Path  # a prepared data set
    address: str  # http://127.0.0.1:PORT of a listener that nobody may connect to
    canary: Path  # a file that code would make which no one may run
    ports: list[int]  # that it may connect to


class Input(NamedTuple):
    """One hostile input."""

    kind: str
    name: str
    make: Callable[[Place], list[str]]  # its command's arguments
    says: str  # what is to be said of it


def config(root: Path, *more: str, variant: str = "folder", modalities: str = "speech") -> list[str]:
    """The configuration of a folder."""
    chosen = f",modalities={modalities}" if variant == "folder" else ""
    return [f"--config={ROOT}/configs/semi.py:{variant},encoders=bundled,root={root}{chosen}", *more]


def data_set(place: Place, table: bytes | str = "name,label,text\na,x,hi\nb,y,you\nc,x,there\nd,y,now\n") -> Path:
    """A folder data set whose four clips a to d are whole."""
    root = place.folder / "data"
    (root / "media").mkdir(parents=True)
    for name in "abcd":
        shutil.copyfile(place.media, root / "media" / f"{name}.mp4")
    (root / "clips.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    return root


def sparse(path: Path, size: int, head: bytes = b"") -> None:
    """A file that claims a size and holds next to nothing."""
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(size)


def runs_code(place: Place) -> Any:
    """An object whose pickle makes the canary."""

    class Runs:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {place.canary}",)

    return Runs()


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


DEEP = b"[" * 100_000
SHORT = (
    "--config.fusion.epochs=1",
    "--config.self_training.rounds=0",
    "--config.cv.folds=2",
    "--config.fusion.hidden=8",
)


def table(name: str, content: Callable[[Place], bytes | str], says: str, command: str = "prepare", *more: str) -> Input:
    """A folder's clips.csv."""

    def make(place: Place) -> list[str]:
        check = ["--check"] if command == "prepare" else []
        return [command, *check, *config(data_set(place, content(place)), *more)]

    return Input("table", name, make, says)


def rows(*names: str) -> Callable[[Place], str]:
    """A table of clips of these names, and of a and b."""

    def content(_: Place) -> str:
        file = io.StringIO()
        cells = [("name", "label"), ("a", "x"), ("b", "y"), *((name, "x") for name in names)]
        csv.writer(file, lineterminator="\n").writerows(cells)
        return file.getvalue()

    return content


def huge_table(place: Place) -> list[str]:
    root = data_set(place)
    sparse(root / "clips.csv", 50 << 30, b"name,label\n")
    return ["prepare", "--check", *config(root)]


def endless_table(place: Place) -> list[str]:
    root = data_set(place)
    endless(root / "clips.csv")
    return ["prepare", "--check", *config(root)]


def odd_files(place: Place) -> list[str]:
    root = data_set(place)
    for name in (b"\xff\xfe.mp4", b"\x1b[2J.mp4", "\u202e4pm.exe.mp4".encode(), b"new\nline.mp4"):
        shutil.copyfile(place.media, os.path.join(os.fsencode(root / "media"), name))
    return ["prepare", "--check", *config(root)]


ESCAPES = "name,label\na,\x1b]0;owned\x07x\nb,y\x1b[2J\u202e\nc,y\x1b[2J\u202e\n"
OUTSIDE = ["../../../x", "/tmp/x", "..", "a/../../x", "nul\0"]
TABLES = [
    table("names that lead elsewhere", rows(*OUTSIDE), "the name cannot be a file's", "prepare"),
    table("the same, features written", rows(*OUTSIDE), "speech: 2 of 2 clips", "extract"),
    table("newline, quote, comma in names", rows('q"uo,te', "new\nline", "=1+1", "x" * 300), r"new\u000aline"),
    table("escape sequences in labels", lambda _: ESCAPES, r"y\u001b[2J\u202e"),
    table("10^6 columns", lambda _: ",".join(f"c{i}" for i in range(10**6)), "it has c0, "),
    table("a field of 100 MB", lambda _: "name,label\na," + "x" * 10**8, "not a well-formed csv"),
    table("3 x 10^6 rows", lambda _: "name,label\n" + "a,x\n" * 3_000_000, "more than 2,097,152 rows"),
    table("100 MB of quotes", lambda _: "name,label\n" + '"' * 10**8, "clips.csv: "),
    table("an executable", lambda _: Path("/bin/sh").read_bytes(), "clips.csv: "),
    Input("table", "50 GiB, sparse", huge_table, "clips.csv: of 51,200 MiB"),
    Input("table", "clips.csv is /dev/zero", endless_table, "clips.csv: no such file"),
    Input("table", "file names of no text", odd_files, r"\u001b[2J"),
]


def array(name: str, make: Callable[[Place, Path], object], says: str, command: str = "extract") -> Input:
    """A clip's ready-made feature, beside 23 that are whole."""

    def arguments(place: Place) -> list[str]:
        root, folder = place.folder / "data", place.folder / "data" / "features" / "f"
        folder.mkdir(parents=True)
        names, rng = [f"c{i}" for i in range(24)], np.random.default_rng(0)
        (root / "clips.csv").write_text("name,label\n" + "".join(f"{n},{'xy'[i % 2]}\n" for i, n in enumerate(names)))
        for clip in names:
            np.save(folder / f"{clip}.npy", rng.normal(size=8).astype(np.float32))
        (folder / "c0.npy").unlink()
        make(place, folder / "c0.npy")
        first, *rest = config(root, *SHORT)
        return [command, f"{first},speech_feature=f", *rest]

    return Input("array", name, arguments, says)


def saved(x: Any) -> Callable[[Place, Path], object]:
    return lambda place, path: np.save(path, x)


def claims(shape: tuple[int, ...], dtype: str = "<f4") -> Callable[[Place, Path], object]:
    """A sparse file of as many bytes as its header says."""

    def make(place: Place, path: Path) -> None:
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
            file.truncate(file.tell() + int(np.prod(shape)) * np.dtype(dtype).itemsize)

    return make


ARRAYS = [
    array("240 GB, sparse", claims((60_000, 1_000_000)), "GiB, more than"),
    array("uint8 of 1 GiB", claims((1 << 20, 1 << 10), "|u1"), "GiB, more than"),
    array(
        "objects that run code", lambda p, f: np.save(f, np.array([runs_code(p)]), allow_pickle=True), "cannot be read"
    ),
    array("a bare pickle", lambda place, path: path.write_bytes(pickle.dumps(runs_code(place))), "not a .npy array"),
    array("complex", saved(np.ones(8, np.complex64)), "expected real numbers"),
    array("structured", saved(np.zeros(8, [("a", "f4")])), "expected real numbers"),
    array("NaN", saved(np.full(8, np.nan, np.float32)), "not a finite"),
    array("3e38", saved(np.full(8, 3e38, np.float32)), "out of all proportion", "train"),
    array("of no dimension", saved(np.float32(3)), "not a finite"),
    array("Fortran's order, another width", saved(np.asfortranarray(np.ones((3, 5), np.float32))), "wide"),
    array("a pipe", lambda place, path: pipe(path), "not a regular file"),
    array(
        "a header of noise", lambda p, f: f.write_bytes(b"\x93NUMPY\1\0\xff\xff" + os.urandom(65535)), "cannot be read"
    ),
]


def prepared(name: str, edit: Callable[[Path], object], says: str) -> Input:
    """A prepared data set that has been tampered with, its checksums as well where there is one for the file."""

    def make(place: Place) -> list[str]:
        root = place.folder / "prepared"
        shutil.copytree(place.prepared, root)
        (root / "files.json").unlink()  # as of an earlier version: nothing tells of the change
        edit(root)
        return ["extract", *config(root, variant="prepared")]

    return Input("prepared", name, make, says)


def edited(name: str, old: bytes, new: bytes) -> Callable[[Path], object]:
    def edit(root: Path) -> None:
        path = root / name
        path.write_bytes(path.read_bytes().replace(old, new))

    return edit


def damaged_records(root: Path) -> None:
    for path in root.glob("*.array_record*"):
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 2000] = os.urandom(2000)
        path.write_bytes(bytes(content))


PREPARED = [
    prepared("clips.csv names ../../../x", edited("clips.csv", b"\na,", b"\n../../../x,"), "has a clip '../../../x'"),
    prepared("a damaged block of records", damaged_records, "prepare the data set again"),
    prepared("dataset.json []", lambda root: (root / "dataset.json").write_text("[]"), "dataset.json"),
    prepared(
        "dataset.json of other types",
        lambda root: (root / "dataset.json").write_text('{"problems": 5}'),
        "dataset.json",
    ),
    prepared(
        "features.json 100,000 deep",
        lambda root: (root / "features.json").write_bytes(DEEP),
        "prepare the data set again",
    ),
]
