"""Hostile checkpoints: bundled ones that have been tampered with."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from benchmarks.hostile_inputs import DEEP, Input, Place, config, data_set, endless, pipe, runs_code, sparse
from mer_jax.checkpoints.sources import ASSETS


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
    checkpoint("a pickle that runs a command", pickled_weights, "pytorch_model.bin: not a whole torch file"),
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
