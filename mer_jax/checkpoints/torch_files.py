"""State_dicts as `torch.save` writes them, in both layouts, read without torch: arrays that map the file.

The layouts are those of torch/serialization.py: `_save`, a zip archive (torch 1.6 and later), and `_legacy_save`.
"""

import io
import mmap
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np

from mer_jax.checkpoints.pickles import MOST_BYTES, Refused, plain_dict, unpickle
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import of_the_system, open_regular

STORAGES = {
    **{"Double": np.float64, "Float": np.float32, "Half": np.float16, "BFloat16": ml_dtypes.bfloat16},
    **{"Long": np.int64, "Int": np.int32, "Short": np.int16, "Char": np.int8, "Byte": np.uint8, "Bool": np.bool_},
    **{"ComplexDouble": np.complex128, "ComplexFloat": np.complex64},
}
WITHOUT_STORAGES = {
    **{name: getattr(np, name) for name in ("uint16", "uint32", "uint64")},
    **{f"float8_{name}": getattr(ml_dtypes, f"float8_{name}") for name in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz")},
}
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the layout before torch 1.6
BROKEN = (
    *(OSError, ValueError, TypeError, LookupError, OverflowError, NotImplementedError),
    *(zipfile.BadZipFile, struct.error),
)
MOST_AXES = 32
MOST_NUMBERS = 2**48
MOST_DIRECTORY = 2**24  # bytes of what a zip archive reads at once, above all its list of entries


Order = Literal["<", ">"]  # of the bytes of a number


@dataclass(frozen=True)
class Storage:
    """Where tensors' numbers are: `size` of them from number `start` on in what the file holds under `key`."""

    key: str
    dtype: np.dtype
    start: int
    size: int


@dataclass(frozen=True)
class TorchTensor:
    """A view of a storage; offset and strides count its numbers."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, contents: Mapping[str, memoryview], byteorder: Order) -> np.ndarray:
        """The numbers where they lie, or turned to this machine's order."""
        size = self.dtype.itemsize
        stored = self.dtype if self.dtype.isbuiltin == 1 else np.dtype(f"u{size}")  # ml_dtypes have no order
        start = self.storage.start * self.storage.dtype.itemsize + self.offset * size
        strides = [stride * size for stride in self.strides]
        stored_there = stored.newbyteorder(byteorder)
        array = np.ndarray(self.shape, stored_there, contents[self.storage.key], start, strides)  # checks its bounds
        return array.astype(stored, copy=False).view(self.dtype)


def read_torch(file: Path) -> dict[str, tuple[TorchTensor, Callable[[], np.ndarray]]]:
    """The tensors of a file by name, with what gives their arrays, which cannot be written to.

    Where the file holds them in a dictionary within another ("model", "state_dict"), it may be the only one.

    Raises:
        DataError: the file is broken, or holds something else.
    """
    try:
        with open_regular(file) as opened:
            mapped = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
            layout = _zip if mapped[:4] == b"PK\3\4" else _legacy
            content, contents, byteorder = layout(opened.fileno(), mapped)
        tensors = _state_dict(content)
        for storage in {tensor.storage for tensor in tensors.values()}:
            if (storage.start + storage.size) * storage.dtype.itemsize > len(contents[storage.key]):
                raise ValueError(f"storage {storage.key[:80]!r} is cut short")
    except Refused as error:
        raise DataError(
            f"{file}: not a torch file of tensors alone ({error}); use one with the model's state_dict, or safetensors."
        ) from error
    except BROKEN as error:
        if of_the_system(error):
            raise
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {str(error)[:200]!r}"
        raise DataError(f"{file}: not a whole torch file ({reason}); download it again.") from error
    return {name: (tensor, partial(tensor.array, contents, byteorder)) for name, tensor in tensors.items()}


class _Storages(dict[str, np.dtype]):
    """The persistent ids of a pickle as storages; holds the dtypes of all that it was asked for."""

    def __call__(self, identity: Any) -> Storage:
        if not isinstance(identity, tuple) or len(identity) not in (5, 6):
            raise ValueError("a persistent id that is none of torch's")
        kind, dtype, key, _, size, *view = identity
        if kind != "storage":
            raise Refused("it holds a whole module")
        if not (isinstance(dtype, np.dtype) and isinstance(key, str) and _natural(size)):
            raise ValueError("a storage of no dtype, name or size")
        self[key] = dtype
        if not any(view):
            return Storage(key, dtype, 0, size)
        _, start, part = view[0]
        if not (_natural(start) and _natural(part) and start + part <= size):
            raise ValueError("a view beyond its storage")
        return Storage(key, dtype, start, part)


def _zip(number: int, mapped: memoryview) -> tuple[Any, dict[str, memoryview], Order]:
    with zipfile.ZipFile(_Entries(number, closefd=False)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if len(entries) < len(archive.infolist()):
            raise Refused("it holds two entries of one name")
    folders = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(folders) != 1:
        raise ValueError("no data.pkl in it")
    if f"{folders[0]}constants.pkl" in entries:
        raise Refused("it is a TorchScript archive")

    def content(name: str) -> memoryview:
        entry = entries[folders[0] + name]
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise Refused(f"{entry.filename[:80]!r} in it is compressed")
        header = mapped[entry.header_offset :][:30]
        if header[:4] != b"PK\3\4":
            raise ValueError(f"{entry.filename[:80]!r} is not where the archive says")
        start = entry.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
        if start + entry.file_size > len(mapped):
            raise ValueError(f"{entry.filename[:80]!r} is cut short")
        return mapped[start : start + entry.file_size]

    pickled = content("data.pkl")
    if len(pickled) > MOST_BYTES:
        raise Refused(f"its pickle is of {len(pickled):,} bytes")
    orders: dict[bytes, Order] = {b"little": "<", b"big": ">"}
    order = orders[bytes(content("byteorder")[:6]) if f"{folders[0]}byteorder" in entries else b"little"]
    storages = _Storages()
    tree = unpickle(io.BytesIO(pickled), NAMES, storages)
    return tree, {key: content(f"data/{key}") for key in storages}, order


def _legacy(_: int, mapped: memoryview) -> tuple[Any, dict[str, memoryview], Order]:
    if mapped[257:262] == b"ustar":
        raise Refused("it is a tar archive, as before torch 0.2")
    stream, storages = io.BytesIO(mapped[:MOST_BYTES]), _Storages()
    magic, protocol, _system, tree, keys = (unpickle(stream, NAMES, storages) for _ in range(5))
    if (magic, protocol) != (MAGIC, PROTOCOL):
        raise ValueError("it does not begin as torch's files do")
    contents, place = {}, stream.tell()
    for key in keys:
        (count,) = struct.unpack("<Q", mapped[place : place + 8])
        end = place + 8 + count * storages[key].itemsize
        contents[key], place = mapped[place + 8 : end], end
    return tree, contents, "<"  # on every machine


class _Entries(io.FileIO):
    """A file for `zipfile`, which would read whatever the end of an archive says that its list of entries takes."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > MOST_DIRECTORY:
            raise Refused(f"its list of entries is of {size:,} bytes")
        return super().read(size)


def _state_dict(content: Any) -> dict[str, TorchTensor]:
    """The dictionary of tensors that a file holds, or the only one in the dictionary that it holds."""
    if not isinstance(content, dict):
        raise Refused(f"it holds a {type(content).__name__}")
    if _all_tensors(content):
        return content
    inner = {id(value): value for value in content.values() if isinstance(value, dict)}
    states = [state for state in inner.values() if state and _all_tensors(state)]
    if len(states) == 1:
        return states[0]
    names = ", ".join(repr(name)[:40] for name in list(content)[:9])
    raise Refused(f"it holds {names}, and among them {len(states)} dictionaries of tensors alone")


def _all_tensors(state: dict[Any, Any]) -> bool:
    return all(isinstance(name, str) and isinstance(tensor, TorchTensor) for name, tensor in state.items())


def _natural(number: Any) -> bool:
    return type(number) is int and 0 <= number < MOST_NUMBERS


def _tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, *, dtype: Any = None, metadata: Any = None
) -> TorchTensor:
    """A tensor whose numbers all lie in its storage."""
    if not isinstance(storage, Storage) or not isinstance(dtype, np.dtype | None):
        raise ValueError("a tensor of no storage or dtype")
    if metadata:
        raise Refused("a tensor in it is a conjugate or negative view")
    if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= MOST_AXES):
        raise ValueError("a tensor whose shape and strides do not fit")
    if not all(map(_natural, (offset, *shape, *strides))):
        raise ValueError("a tensor whose offset, shape or strides are negative or beyond all files")
    dtype = storage.dtype if dtype is None else dtype
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    held = storage.size * storage.dtype.itemsize // dtype.itemsize
    if (last >= held) if all(shape) else (offset > held):
        raise ValueError("a tensor that reaches beyond its storage")
    return TorchTensor(storage, dtype, offset, shape, strides)


def _tensor_v2(
    storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, metadata: Any = None
) -> TorchTensor:
    return _tensor(storage, offset, shape, strides, metadata=metadata)


def _tensor_v3(
    storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, dtype: Any, metadata: Any = None
) -> TorchTensor:
    return _tensor(storage, offset, shape, strides, dtype=dtype, metadata=metadata)


def _parameter(tensor: Any, _grad: Any, _hooks: Any, _state: Any = None) -> TorchTensor:
    if not isinstance(tensor, TorchTensor):
        raise ValueError("a parameter of no tensor")
    return tensor


def _size(shape: Any) -> tuple[Any, ...]:
    if not isinstance(shape, tuple):
        raise ValueError("a shape that is none")
    return shape


def _ordered_dict(pairs: Any = None) -> dict[Any, Any]:
    """With pairs in Python 2's pickles alone. They are taken out: dictionaries of one list would fill the memory."""
    if not isinstance(pairs, list | None):
        raise ValueError("a dictionary of no list")
    content = plain_dict(pairs or [])
    if pairs:
        pairs.clear()
    return content


NAMES: dict[str, Any] = {
    "collections OrderedDict": _ordered_dict,
    "torch Size": _size,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor_v2,
    "torch._utils _rebuild_tensor_v3": _tensor_v3,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_parameter_with_state": _parameter,
    "torch.storage UntypedStorage": np.dtype(np.uint8),
    **{f"torch {name}": np.dtype(dtype) for name, dtype in WITHOUT_STORAGES.items()},
    **{f"torch{cuda} {name}Storage": np.dtype(dtype) for name, dtype in STORAGES.items() for cuda in ("", ".cuda")},
}
"""What a pickle of torch's may ask for."""
