"""Inputs made to do harm: each writes its files into a folder of its own and says which command is to meet them."""

import csv
import io
import json
import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from PIL import Image

from mer_jax.checkpoints.huggingface import ASSETS

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
    chosen = f",modalities={modalities}" if variant == "folder" else ",encoders=bundled"
    return [f"--config={ROOT}/configs/semi.py:{variant},root={root}{chosen}", *more]


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


def checkpoint(name: str, edit: Callable[[Path, Place], object], says: str, asset: str = "hubert") -> Input:
    """A bundled checkpoint that has been tampered with."""
    modality = {"hubert": "speech", "clip": "image", "baichuan": "text"}[asset]

    def make(place: Place) -> list[str]:
        folder = place.folder / "model"
        shutil.copytree(ASSETS / asset, folder)
        edit(folder, place)
        root = data_set(place)
        return ["extract", *config(root, f"--config.encoders.{modality}.source={folder}", modalities=modality)]

    return Input("checkpoint", name, make, says)


def with_fields(file: str, **fields: Any) -> Callable[[Path, Place], object]:
    """Changes fields of a checkpoint's JSON."""

    def edit(folder: Path, place: Place) -> None:
        path = folder / file
        content = json.loads(path.read_text("utf-8")) if path.exists() else {}
        path.write_text(json.dumps(content | fields), "utf-8")

    return edit


def replaced(file: str, content: Callable[[Place], bytes]) -> Callable[[Path, Place], object]:
    """Puts other bytes in a file's place."""
    return lambda folder, place: (folder / file).write_bytes(content(place))


def index(name: Any) -> Callable[[Path, Place], object]:
    """An index in place of the weights."""

    def edit(folder: Path, place: Place) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))

    return edit


def pickled_weights(folder: Path, place: Place) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": runs_code(place)}))


def nan_weights(folder: Path, place: Place) -> None:
    file = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    safetensors.numpy.save_file({name: x * np.float32(np.nan) for name, x in tensors.items()}, file)


def remote_code(file: str, code: str) -> Callable[[Path, Place], object]:
    """An `auto_map` that names code beside it."""

    def edit(folder: Path, place: Place) -> None:
        auto = {name: f"code.{name}" for name in ("AutoConfig", "AutoModel")} | {"AutoTokenizer": ["code.T", None]}
        with_fields(file, auto_map=auto, tokenizer_class="T")(folder, place)
        (folder / "code.py").write_text(code.format(canary=place.canary))

    return edit


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


CODE = "open('{canary}', 'w')\nclass T: pass\n"
DEEP = b"[" * 100_000
CHECKPOINTS = [
    checkpoint("hidden_size 10^9", with_fields("config.json", hidden_size=10**9), "hidden_size is 1000000000"),
    checkpoint("vocab_size Infinity", with_fields("config.json", vocab_size=float("inf")), "vocab_size is inf"),
    checkpoint("model_type is a list", with_fields("config.json", model_type=["hubert"]), "model_type is ['hubert']"),
    checkpoint("config.json []", replaced("config.json", lambda _: b"[]"), "config.json: not a JSON object"),
    checkpoint("config.json 100,000 deep", replaced("config.json", lambda _: DEEP), "config.json: cannot be read"),
    checkpoint(
        "config.json of 100 GiB", lambda f, p: sparse(f / "config.json", 100 << 30), "config.json: of 100.0 GiB"
    ),
    checkpoint("index names /etc/passwd", index("/etc/passwd"), "index.json: no weight_map"),
    checkpoint("index names ../..", index("../../data/clips.csv"), "index.json: no weight_map"),
    checkpoint("index names 5", index(5), "index.json: no weight_map"),
    checkpoint("safetensors cut", replaced("model.safetensors", lambda _: b"\x10\0\0\0\0\0\0\0{"), "not a whole"),
    checkpoint("header of 2^60", replaced("model.safetensors", lambda _: b"\0" * 7 + b"\x10{}"), "not a whole"),
    checkpoint(
        "tensor beyond the end",
        replaced("model.safetensors", lambda _: safetensors.numpy.save({"a": np.zeros(9, np.float32)})[:-8]),
        "not a whole",
    ),
    checkpoint("weights of 1 TiB, sparse", lambda f, p: sparse(f / "model.safetensors", 1 << 40), "not a whole"),
    checkpoint("weights are /dev/zero", lambda f, p: endless(f / "model.safetensors"), "not a regular file"),
    checkpoint("a pipe among its files", lambda f, p: pipe(f / "extra.json"), "extra.json: not a regular file"),
    checkpoint("a pickle that runs a command", pickled_weights, "pytorch_model.bin: not a whole torch file"),
    checkpoint("weights NaN", nan_weights, "0 of 4 clips"),
    checkpoint("auto_map in config.json", remote_code("config.json", CODE), "4 of 4 clips"),
    checkpoint("auto_map of a tokenizer", remote_code("tokenizer_config.json", CODE), "4 of 4 clips", "baichuan"),
    checkpoint(
        "tokenizer.json 100,000 deep", replaced("tokenizer.json", lambda _: DEEP), "tokenizer.json: ", "baichuan"
    ),
    checkpoint(
        "tokenizer.model of noise", replaced("tokenizer.model", lambda _: os.urandom(999)), "SentencePiece", "baichuan"
    ),
    checkpoint(
        "images of 10^9 px",
        with_fields("preprocessor_config.json", size=10**9, crop_size=10**9),
        "preprocessor_config.json: crop_size is 1000000000",
        "clip",
    ),
]


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


def predicted(name: str, make: Callable[[Place, Path], object], says: str, file: str = "a.mp4") -> Input:
    """A media file for a finished run."""

    def arguments(place: Place) -> list[str]:
        name = file.replace("PORT", place.address.rpartition(":")[2])
        make(place, place.folder / name)
        return ["predict", f"--workdir={place.run}", f"--input={name}"]  # in the current folder, as people call it

    return Input("media", name, arguments, says)


def text(content: str) -> Callable[[Place, Path], object]:
    """A playlist, with URL for an address and FILE for a file."""
    return lambda place, path: path.write_text(
        content.replace("URL", f"{place.address}/a.mp4").replace("FILE", str(place.media))
    )


def touched(place: Place, path: Path) -> None:
    path.write_bytes(b"")


def absurd_gif(place: Place, path: Path) -> None:
    Image.new("P", (8, 8)).save(path, "GIF")
    content = path.read_bytes()
    path.write_bytes(content[:6] + struct.pack("<HH", 65535, 65535) + content[10:])


def absurd_duration(place: Place, path: Path) -> None:
    content = bytearray(place.media.read_bytes())
    for box in (b"mvhd", b"mdhd"):
        place_of = content.find(box) + 4 + 12
        content[place_of : place_of + 8] = struct.pack(">II", 1, 2**32 - 1)
    path.write_bytes(bytes(content))


def many_streams(place: Place, path: Path) -> None:
    stream = b"strh" + struct.pack("<I", 56) + b"vidsMJPG" + bytes(48)
    lists = (b"LIST" + struct.pack("<I", 4 + len(stream)) + b"strl" + stream) * 200_000
    header = b"avih" + struct.pack("<I", 56) + bytes(56) + lists
    body = b"AVI LIST" + struct.pack("<I", 4 + len(header)) + b"hdrl" + header
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


def large_frames(place: Place, path: Path) -> None:
    Image.new("RGB", (16_000, 16_000)).save(path, "PNG")


def long_silence(place: Place, path: Path) -> None:
    """A day of it at 48 kHz, 16 GiB that take no room."""
    size = 24 * 3600 * 48_000 * 4 - 4096
    head = (
        b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, 48_000, 192_000, 4, 16) + b"data" + struct.pack("<I", 2**32 - 1)
    )
    sparse(path, size, b"RIFF" + struct.pack("<I", 2**32 - 1) + head)


M3U8 = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nURL\n#EXTINF:5,\nfile://FILE\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    "<Representation><BaseURL>URL</BaseURL></Representation></AdaptationSet></Period></MPD>"
)
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
NO_MEDIA = "cannot decode"
MEDIA = [
    predicted("a pipe", lambda place, path: pipe(path), "not a regular file"),
    predicted("a link to /dev/zero", lambda place, path: endless(path), "not a regular file"),
    predicted("m3u8 playlist", text(M3U8), NO_MEDIA),
    predicted("concat playlist", text("ffconcat version 1.0\nfile URL\nfile FILE\n"), NO_MEDIA),
    predicted("DASH manifest", text(DASH), NO_MEDIA),
    predicted("SDP", text(SDP), NO_MEDIA),
    predicted("an EDL", text("# mpv EDL v0\nURL\nFILE\n"), NO_MEDIA),
    predicted("subtitles", text("1\n00:00:00,000 --> 00:00:05,000\nURL\n"), NO_MEDIA),
    *(
        predicted(f"named {name}", touched, NO_MEDIA, name)
        for name in ("http:127.0.0.1:PORT.mp4", "tcp:127.0.0.1:PORT.mp4", "concat:a|b.mp4", "pipe:0.mp4", "%d.mp4")
    ),
    predicted("2^32 s long", absurd_duration, '"label"'),
    predicted("200,000 streams", many_streams, NO_MEDIA),
    predicted("frames of 65535 x 65535", absurd_gif, '"absent"', "a.gif"),
    predicted("one frame of 16,000 x 16,000", large_frames, '"absent"'),
    predicted("a day of silence, sparse", long_silence, '"absent"', "a.wav"),
    predicted("1 TiB, sparse", lambda place, path: sparse(path, 1 << 40), NO_MEDIA),
]


def crops(name: str, make: Callable[[Place, Path], object], says: str) -> Input:
    """A clip's folder of face images, beside three clips that bring whole ones."""

    def arguments(place: Place) -> list[str]:
        root = data_set(place)
        for clip in "abcd":
            folder = root / "openface_face" / clip / f"{clip}_aligned"
            folder.mkdir(parents=True)
            if clip == "a":
                make(place, folder)
            else:
                Image.new("RGB", (112, 112), "red").save(folder / "frame_1.png")
        return ["train", *config(root, *SHORT, modalities="image")]

    return Input("crops", name, arguments, says)


SHORT = (
    "--config.fusion.epochs=1",
    "--config.self_training.rounds=0",
    "--config.cv.folds=2",
    "--config.fusion.hidden=8",
)


def png_bomb(place: Place, folder: Path) -> None:
    Image.new("L", (8, 8)).save(folder / "a.png")
    content = (folder / "a.png").read_bytes()
    header = b"IHDR" + struct.pack(">II", 100_000, 100_000) + content[24:29]
    (folder / "a.png").write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])


def three_large(place: Place, folder: Path) -> None:
    Image.new("RGB", (13_300, 13_300)).save(folder / "0.png")
    for number in (1, 2):
        shutil.copyfile(folder / "0.png", folder / f"{number}.png")


def many_images(place: Place, folder: Path) -> None:
    Image.new("RGB", (3_840, 3_840)).save(folder / "0.png")
    for number in range(1, 100):
        os.link(folder / "0.png", folder / f"{number}.png")


EPS = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(CANARY) (w) file closefile\nshowpage\n"
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><image href="URL"/></svg>'
CROPS = [
    crops("three of 13,300 x 13,300", three_large, "13300x13300 px, more than 3840"),
    crops("100 of 3,840 x 3,840", many_images, "GiB of them"),
    crops("a PNG of 100,000 x 100,000", png_bomb, "face images cannot be read"),
    crops("a pipe", lambda place, folder: pipe(folder / "a.png"), "not a regular file"),
    crops("a link to /dev/zero", lambda place, folder: endless(folder / "a.png"), "not a regular file"),
    crops(
        "EPS as .jpg", lambda p, f: (f / "a.jpg").write_text(EPS.replace("CANARY", str(p.canary))), "cannot identify"
    ),
    crops("SVG as .jpg", lambda p, f: (f / "a.jpg").write_text(SVG.replace("URL", p.address)), "cannot identify"),
]


def array(name: str, make: Callable[[Place, Path], object], says: str) -> Input:
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
        train, *rest = "train", *config(root, *SHORT)
        return [train, rest[0] + ",speech_feature=f", *rest[1:]]

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
    array("3e38", saved(np.full(8, 3e38, np.float32)), "out of all proportion"),
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
