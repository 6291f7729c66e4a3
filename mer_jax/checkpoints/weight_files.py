"""The files of a checkpoint's weights, safetensors or PyTorch's, tensor by tensor and without running any code."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np
import safetensors

from mer_jax.checkpoints.torch_files import read_torch
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import load_json

WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.|base_model\.model\.)+")  # of DataParallel, torch.compile, PEFT
FLOATS = {"F64", "F32", "F16", "BF16"}  # as safetensors calls them
FLOAT_DTYPES = {np.dtype(dtype) for dtype in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)}


class Header(NamedTuple):
    """What a file says of a tensor before its bytes are read."""

    name: str
    shape: tuple[int, ...]
    quantised: bool  # whole numbers, or of 8 bits


def weight_files(folder: Path) -> list[Path]:
    """The checkpoint's files, safetensors before torch pickles, one or several by index."""
    for single in (folder / "model.safetensors", folder / "pytorch_model.bin"):
        if single.is_file():
            return [single]
        index = folder / f"{single.name}.index.json"
        if index.is_file():
            try:
                names = sorted(set(load_json(index)["weight_map"].values()))
                if outside := [name for name in names if Path(name).name != name]:
                    raise ValueError(f"{outside[0]!r} is no name of a file in its folder")
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise DataError(f"{index}: no weight_map to read in it ({error}); download it again.") from error
            if absent := [name for name in names if not (folder / name).is_file()]:
                raise DataError(f"{index}: lists {', '.join(absent)}, not in the folder; download it again.")
            return [folder / name for name in names]
    raise DataError(f"{folder}: expected model.safetensors or pytorch_model.bin, or their index.json.")


def tensors_of(file: Path, prefixes: Sequence[str]) -> Iterator[tuple[Header, Callable[[], np.ndarray]]]:
    """The tensors of a file, with what reads their bytes; named without WRAPPERS and `prefixes`."""

    def plain(name: str) -> str:
        return reduce(str.removeprefix, prefixes, WRAPPERS.sub("", name))

    if file.suffix == ".safetensors":
        try:
            with safetensors.safe_open(file, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    header = tensors.get_slice(name)
                    quantised = header.get_dtype() not in FLOATS
                    yield Header(plain(name), tuple(header.get_shape()), quantised), partial(tensors.get_tensor, name)
        except safetensors.SafetensorError as error:
            raise DataError(f"{file}: not a whole safetensors file ({error}); download it again.") from error
        return
    for name, (tensor, read) in read_torch(file).items():
        yield Header(plain(name), tensor.shape, tensor.dtype not in FLOAT_DTYPES), read
