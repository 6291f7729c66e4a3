"""Hostile checkpoints: bundled ones that have been tampered with."""

import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from benchmarks.hostile_inputs import DEEP, Input, Place, config, data_set, endless, pipe, runs_code, sparse
from mer_jax.checkpoints.sources import ASSETS
from tests.torch_writer import dictionary, legacy_file, pickled, save_torch, storage, text, view, zip_file


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


def torch_weights(content: Callable[[Place], bytes], legacy: bool = False) -> Callable[[Path, Place], object]:
    """A torch file with this pickle and one storage, "0" of six float32, in place of the weights."""

    def edit(folder: Path, place: Place) -> None:
        (folder / "model.safetensors").unlink()
        file, numbers = folder / "pytorch_model.bin", {"0": bytes(24)}
        if legacy:
            file.write_bytes(legacy_file(content(place), numbers, {"0": 6}))
        else:
            zip_file(file, content(place), numbers)

    return edit


def torch_tensor(claimed: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """A pickle of one tensor on a storage that claims so many numbers."""
    return pickled(dictionary({"a": view(storage("Float", "0", claimed), offset, shape, strides)}))


def whole_torch_file(folder: Path) -> Path:
    """The checkpoint's weights as torch saves them."""
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_torch(folder / "pytorch_model.bin", tensors)
    return folder / "pytorch_model.bin"


def compressed(folder: Path, place: Place) -> None:
    file = whole_torch_file(folder)
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content if name.endswith(".pkl") else bytes(2**24))


def entry_twice(folder: Path, place: Place) -> None:
    with zipfile.ZipFile(whole_torch_file(folder), "a") as archive:
        archive.writestr("archive/data/other", b"other")
        archive.filelist[-1].filename = "archive/data/0"  # in the list of entries alone


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


BROKEN = "pytorch_model.bin: not a whole torch file"
OTHERS = "pytorch_model.bin: not a torch file of tensors alone"
PICKLES: list[tuple[str, Callable[[Place], bytes], str]] = [
    ("GLOBAL os.system", lambda place: pickle.dumps({"a": runs_code(place)}, 2), "asks for 'posix.system'"),
    ("STACK_GLOBAL os.system", lambda place: pickle.dumps({"a": runs_code(place)}, 4), "asks for 'posix.system'"),
    (
        "eval",
        lambda place: b"c__builtin__\neval\n" + text(f"open('{place.canary}', 'w')") + b"\x85R.",
        "builtin__.eval",
    ),
    ("torch.hub.load", lambda _: b"ctorch.hub\nload\n" + text("a/b") + b"\x85R.", "asks for 'torch.hub.load'"),
    ("a dotted name", lambda _: b"ctorch._utils\n_rebuild_tensor.__globals__\n.", OTHERS),
    ("INST", lambda place: b"(" + text(f"touch {place.canary}") + b"ios\nsystem\n.", "the opcode INST"),
    ("OBJ", lambda _: b"(ccollections\nOrderedDict\no.", "the opcode OBJ"),
    ("NEWOBJ", lambda _: b"ccollections\nOrderedDict\n)\x81.", "the opcode NEWOBJ"),
    ("EXT1", lambda _: b"\x82\1.", "the opcode EXT1"),
    ("BUILD on a class", lambda _: b"ctorch\nFloatStorage\n}b.", "sets the state"),
    ("memo of 2^32", lambda _: b"Nr\xff\xff\xff\xff.", OTHERS),
    ("a million memos", lambda _: b"".join(b"]r" + struct.pack("<I", n) for n in range(10**6)) + b".", OTHERS),
    ("60 million lists", lambda _: b"]" * 60_000_000 + b".", "more steps"),
    ("100,000 deep", lambda _: b"}" + b")" + b"\x85" * 100_000 + b"Ns.", "a tuple as a key"),
    ("text of 2^40", lambda _: b"\x8d" + struct.pack("<Q", 2**40) + b"a", BROKEN),
    ("storage of 2^47", lambda _: torch_tensor(2**47, 0, (1,), (1,)), "cut short"),
    ("stride 2^40", lambda _: torch_tensor(6, 0, (2,), (2**40,)), "beyond its storage"),
    ("negative stride", lambda _: torch_tensor(6, 5, (2,), (-1,)), "negative"),
    ("2^46 copies of a number", lambda _: torch_tensor(6, 0, (2**46,), (0,)), "unexpected: a [70368744177664]"),
]
"""Content of torch files, and what is said of them."""
CODE = "open('{canary}', 'w')\nclass T: pass\n"
CHECKPOINTS = [
    checkpoint("hidden_size 10^9", with_fields("config.json", hidden_size=10**9), "hidden_size is 1000000000"),
    checkpoint("vocab_size Infinity", with_fields("config.json", vocab_size=float("inf")), "vocab_size is inf"),
    checkpoint("model_type is a list", with_fields("config.json", model_type=["hubert"]), "model_type is ['hubert']"),
    checkpoint("config.json []", replaced("config.json", lambda _: b"[]"), "config.json: not a JSON object"),
    checkpoint("config.json 100,000 deep", replaced("config.json", lambda _: DEEP), "config.json: cannot be read"),
    checkpoint("config.json of 100 GiB", lambda f, _: sparse(f / "config.json", 100 << 30), "json: of 100.0 GiB"),
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
    checkpoint("torch file as ever", lambda folder, _: whole_torch_file(folder), "4 of 4 clips"),
    *(checkpoint(f"torch file: {name}", torch_weights(content), says) for name, content, says in PICKLES),
    checkpoint(
        "torch file of before 1.6 that runs a command",
        torch_weights(lambda place: pickle.dumps({"a": runs_code(place)}), legacy=True),
        "asks for 'posix.system'",
    ),
    checkpoint(
        "torch file of before 1.6 that claims 2^46 numbers",
        torch_weights(lambda _: torch_tensor(2**46, 0, (1,), (1,)), legacy=True),
        "cut short",
    ),
    checkpoint(
        "torch file cut", lambda f, _: os.truncate(file := whole_torch_file(f), file.stat().st_size - 9), BROKEN
    ),
    checkpoint("torch file, compressed", compressed, "is compressed"),
    checkpoint("torch file, an entry twice", entry_twice, "two entries of one name"),
    checkpoint("torch file of 1 TiB, sparse", lambda f, _: os.truncate(whole_torch_file(f), 1 << 40), BROKEN),
    checkpoint("torch file is /dev/zero", lambda f, _: endless(whole_torch_file(f)), "not a regular file"),
    checkpoint("weights NaN", nan_weights, "holds numbers that are not finite"),
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
