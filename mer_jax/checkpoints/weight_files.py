"""The files of a checkpoint's weights, safetensors or PyTorch's, tensor by tensor and without running any code."""

import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from pathlib import Path
from pickle import UnpicklingError
from typing import NamedTuple

import numpy as np
import safetensors

from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import load_json

WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.|base_model\.model\.)+")  # of DataParallel, torch.compile, PEFT
FLOATS = {"F64", "F32", "F16", "BF16"}  # as safetensors calls them


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
    try:
        import torch
    except ModuleNotFoundError as error:
        raise DataError(f"{file}: reading it needs PyTorch; install torch.") from error
    try:
        # Files older than torch 1.6 are no zip archives and cannot be mapped.
        tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except (UnpicklingError, RuntimeError, EOFError) as error:
        kind = type(error).__name__
        raise DataError(f"{file}: not a whole torch file of tensors alone ({kind}); download it again.") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise DataError(f"{file}: expected one dictionary of tensors; export the model's state_dict alone.")
    for name, tensor in tensors.items():  # as float32: torch gives numpy no bfloat16
        quantised = not tensor.is_floating_point() or tensor.element_size() < 2
        yield Header(plain(name), tuple(tensor.shape), quantised), partial(lambda x: x.float().numpy(), tensor)
