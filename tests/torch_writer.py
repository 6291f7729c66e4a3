"""Writes a state_dict as `torch.save` does, without torch: the opcodes, names and entries of torch 2.13."""

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import ml_dtypes
import numpy as np

STORAGES = {
    **{"float64": "Double", "float32": "Float", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long"},
    **{"int32": "Int", "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool"},
    **{"complex64": "ComplexFloat", "complex128": "ComplexDouble"},
}
Order = Literal["little", "big"]
EMPTY_ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def text(string: str) -> bytes:
    content = string.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(content)) + content


def integer(number: int) -> bytes:
    if 0 <= number < 2**31:
        return pickle.BININT + struct.pack("<i", number)
    return pickle.dumps(number, 2)[2:-1]


def integers(numbers: tuple[int, ...]) -> bytes:
    return pickle.MARK + b"".join(map(integer, numbers)) + pickle.TUPLE


def storage(kind: str, key: str, size: int, legacy: bool = False) -> bytes:
    """A reference to a storage: `kind` is the name of its class without "Storage"."""
    content = text("storage") + f"ctorch\n{kind}Storage\n".encode() + text(key) + text("cpu") + integer(size)
    return pickle.MARK + content + pickle.NONE * legacy + pickle.TUPLE + pickle.BINPERSID


def view(stored: bytes, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """A tensor: a view of a storage, counted in its numbers."""
    content = stored + integer(offset) + integers(shape) + integers(strides) + pickle.NEWFALSE + EMPTY_ORDERED_DICT
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + pickle.MARK + content + pickle.TUPLE + pickle.REDUCE


def dictionary(items: Mapping[str, bytes]) -> bytes:
    content = b"".join(text(name) + value for name, value in items.items())
    return pickle.EMPTY_DICT + pickle.MARK + content + pickle.SETITEMS


def pickled(content: bytes) -> bytes:
    return pickle.PROTO + b"\2" + content + pickle.STOP


def save_torch(
    file: Path, tensors: Mapping[str, np.ndarray], legacy: bool = False, byteorder: Order = "little"
) -> None:
    """Writes each array as a tensor with a storage of its own, contiguous, in a file of either layout."""
    rows, contents = {}, {}
    for key, (name, array) in enumerate(tensors.items()):
        strides = tuple(int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim))
        stored = storage(STORAGES[array.dtype.name], str(key), array.size, legacy)
        rows[name] = view(stored, 0, array.shape, strides)
        plain = array.view(np.uint16) if array.dtype == ml_dtypes.bfloat16 else array
        contents[str(key)] = plain.astype(plain.dtype.newbyteorder(byteorder)).tobytes()
    sizes = {str(key): array.size for key, array in enumerate(tensors.values())}
    if legacy:
        file.write_bytes(legacy_file(pickled(dictionary(rows)), contents, sizes))
    else:
        zip_file(file, pickled(dictionary(rows)), contents, byteorder)


def zip_file(file: Path, content: bytes, storages: Mapping[str, bytes], byteorder: Order = "little") -> None:
    """An archive as torch writes it since 1.6; storages begin wherever they happen to."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", byteorder)
        for key, numbers in storages.items():
            archive.writestr(f"archive/data/{key}", numbers)
        archive.writestr("archive/version", "3\n")


def legacy_file(content: bytes, storages: Mapping[str, bytes], sizes: Mapping[str, int]) -> bytes:
    """A file as torch wrote it before 1.6."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    numbers = [struct.pack("<Q", sizes[key]) + content for key, content in storages.items()]
    return b"".join([*head, content, pickle.dumps(list(storages), 2), *numbers])
