import os
import pickle
import re
import tarfile
import warnings
import zipfile
from mmap import mmap

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mer_jax.checkpoints.torch_files import read_torch
from mer_jax.runtime.errors import DataError
from tests.oracle import GOLDENS
from tests.torch_writer import dictionary, legacy_file, pickled, save_torch, storage, text, view, zip_file

LAYOUTS = ("zip", "legacy")
DTYPES = (
    *("float64", "float32", "float16", "bfloat16", "complex64", "complex128"),
    *("int64", "int32", "int16", "int8", "uint8", "bool"),
)


def torch_state(torch):
    """Every dtype; views, shared storages, parameters, no numbers, and the `_metadata` of a module."""
    numbers = torch.arange(60, dtype=torch.float32)
    state = torch.nn.BatchNorm1d(3).state_dict()
    state |= {name: torch.tensor([[0, 1, 2], [3, 4, 90]]).to(getattr(torch, name)) for name in DTYPES}
    state |= {"rows": numbers.view(5, 12), "columns": numbers.view(5, 12).t(), "every third": numbers[7:20:3]}
    state |= {"expanded": numbers[3:4].expand(4), "halves": state["bfloat16"].t(), "none": torch.zeros(0, 3)}
    state |= {"parameter": torch.nn.Parameter(torch.full((2, 2), 0.5)), "number": torch.tensor(3.5)}
    return state


def wide(array):
    return np.asarray(array, np.complex128 if array.dtype.kind == "c" else np.float64)


@pytest.fixture(params=LAYOUTS)
def saved(request, tmp_path, oracle):
    """A file as torch writes it, and of each tensor that torch reads from it the numbers and the shape."""
    golden = GOLDENS / "torch_files" / f"{request.param}.bin"
    file = tmp_path / golden.name if oracle.compute and not oracle.write else golden

    def compute():
        import torch

        torch.save(torch_state(torch), file, _use_new_zipfile_serialization=request.param == "zip")
        state = torch.load(file, weights_only=True)
        numbers = {name: tensor.detach().to(torch.complex128).numpy().real for name, tensor in state.items()}
        shapes = {f"{name}.shape": np.array(array.shape, np.int64) for name, array in numbers.items()}
        return shapes | {name: array.ravel() for name, array in numbers.items()}

    golden.parent.mkdir(exist_ok=True)
    values = oracle("torch_files/values", compute)
    return file, {name: x.reshape(values[f"{name}.shape"]) for name, x in values.items() if f"{name}.shape" in values}


def test_arrays_are_what_torch_loads(saved):
    file, expected = saved
    tensors = read_torch(file)
    assert tensors.keys() == expected.keys()
    for name, (tensor, read) in tensors.items():
        assert read().dtype.name == tensor.dtype.name == (name if name in DTYPES else read().dtype.name)
        assert tensor.shape == read().shape == expected[name].shape
        np.testing.assert_array_equal(wide(read()).real, expected[name], err_msg=name)
    assert tensors["halves"][1]().dtype == ml_dtypes.bfloat16


def test_arrays_lie_in_the_mapped_file(saved):
    file, _ = saved
    arrays = {name: read() for name, (_, read) in read_torch(file).items()}
    assert np.shares_memory(arrays["rows"], arrays["columns"])
    for array in arrays.values():
        assert not array.flags.writeable
        base = array
        while isinstance(base, np.ndarray):
            base = base.base
        assert isinstance(base, mmap)


def every_dtype():
    numbers = np.array([[0, 1, 2], [3, 4, 90]])
    return {name: numbers.astype(getattr(ml_dtypes, name, name)) for name in DTYPES}


@pytest.mark.parametrize("layout", [*LAYOUTS, "big"])
def test_files_of_tests_are_as_torch_reads_them(tmp_path, layout):
    file = tmp_path / "pytorch_model.bin"
    state = every_dtype()
    save_torch(file, state, layout == "legacy", "big" if layout == "big" else "little")
    for name, (_, read) in read_torch(file).items():
        np.testing.assert_array_equal(read(), state[name])
        assert read().dtype == state[name].dtype and read().dtype.isnative
    torch = pytest.importorskip("torch")
    for name, tensor in torch.load(file, weights_only=True).items():
        assert str(tensor.dtype) == f"torch.{name}"
        np.testing.assert_array_equal(tensor.to(torch.complex128).numpy(), wide(state[name]))


@pytest.mark.parametrize("name", ["uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"])
def test_dtypes_without_storages_of_their_own(tmp_path, name):
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([0.0, 1, 2, 4]).to(getattr(torch, name))
    torch.save({"a": tensor[1:]}, tmp_path / "a.bin")
    ((described, read),) = read_torch(tmp_path / "a.bin").values()
    assert read().dtype.name == described.dtype.name == name
    np.testing.assert_array_equal(read().astype(np.float64), [1, 2, 4])


FLOATS = {"0": np.arange(6, dtype=np.float32).tobytes()}
SIX = storage("Float", "0", 6)


def archive(folder, content, storages=FLOATS):
    zip_file(folder / "a.bin", pickled(content), storages)
    return folder / "a.bin"


@pytest.mark.parametrize("outer", ["model", "state_dict", "ema"])
def test_a_dictionary_of_tensors_within_another(tmp_path, outer):
    state = dictionary({"weight": view(SIX, 1, (2,), (3,))})
    others = {"epoch": pickle.NONE, "optimizer": dictionary({"lr": pickle.NONE})}
    ((_, read),) = read_torch(archive(tmp_path, dictionary({outer: state} | others))).values()
    np.testing.assert_array_equal(read(), [1, 4])
    with pytest.raises(DataError, match=r"'model', 'twin', and among them 2 dictionaries of tensors alone"):
        read_torch(archive(tmp_path, dictionary({"model": state, "twin": state})))


def test_what_python_2_wrote(tmp_path):
    pair = pickle.EMPTY_LIST + pickle.MARK + b"U\1a" + view(SIX, 0, (1,), (1,)) + pickle.APPENDS
    pairs = pickle.EMPTY_LIST + pickle.MARK + pair + pickle.APPENDS
    file = archive(tmp_path, b"ccollections\nOrderedDict\n" + pairs + pickle.TUPLE1 + pickle.REDUCE)
    assert read_torch(file).keys() == {"a"}


def test_storages_that_are_views_of_others(tmp_path):
    stored = storage("Float", "0", 6, legacy=True)
    part = pickle.MARK + text("1") + b"K\2K\3" + pickle.TUPLE  # of key 1: from 2 on, 3
    within = stored.replace(pickle.NONE + pickle.TUPLE, part + pickle.TUPLE)
    file = tmp_path / "a.bin"
    file.write_bytes(legacy_file(pickled(dictionary({"a": view(within, 1, (2,), (1,))})), FLOATS, {"0": 6}))
    np.testing.assert_array_equal(read_torch(file)["a"][1](), [3, 4])


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (7,), (1,)),
        (1, (6,), (1,)),
        (0, (2, 2), (1, 5)),
        (-1, (2,), (1,)),
        (0, (-2,), (1,)),
        (5, (2,), (-1,)),
        (0, (2, 2), (1,)),
        (0, (2**40,), (1,)),
        (2**62, (2**62,), (2**62,)),
        (7, (0,), (1,)),
        (0, (1,) * 33, (1,) * 33),
    ],
)
def test_tensors_beyond_their_storage_are_refused(tmp_path, offset, shape, strides):
    with pytest.raises(DataError, match=r"a\.bin: not a whole torch file \(ValueError: ") as error:
        read_torch(archive(tmp_path, dictionary({"a": view(SIX, offset, shape, strides)})))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("claimed", [7, 2**47, 2**60, 2**200])
def test_storages_larger_than_what_the_file_holds_are_refused(tmp_path, legacy, claimed):
    content = dictionary({"a": view(storage("Float", "0", claimed, legacy), 0, (1,), (1,))})
    file = tmp_path / "a.bin"
    if legacy:
        file.write_bytes(legacy_file(pickled(content), FLOATS, {"0": 6}))
    else:
        archive(tmp_path, content)
    with pytest.raises(DataError, match="not a whole torch file"):
        read_torch(file)


def rezipped(file, **options):
    """The file's entries written anew."""
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def added(name, content=b""):
    def edit(file):
        with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(file, "a") as archive:  # of a name twice
            archive.writestr(name, content)

    return edit


def patched(pattern, bytes_):
    """Other bytes, wherever those stand: names do so in an entry's header and in the list of entries."""
    return lambda file: file.write_bytes(re.sub(pattern, bytes_, file.read_bytes()))


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda file: rezipped(file, compression=zipfile.ZIP_DEFLATED), "'archive/data.pkl' in it is compressed"),
        (added("archive/data/0", b"other"), "two entries of one name"),
        (added("archive/constants.pkl"), "a TorchScript archive"),
        (added("other/data.pkl"), "no data.pkl in it"),
        (patched(b"archive/data.pkl", b"archive/data.pk_"), "no data.pkl in it"),
        (patched(b"archive/data/0", b"archive/data/1"), "'archive/data/0'"),
        (patched(b"little", b"middle"), "b'middle'"),
        (patched(rb"(?s)PK..(?=.{26}archive/data/0)", b"PK\3\5"), "is not where the archive says"),
        (lambda file: os.truncate(file, file.stat().st_size - 1), "not a zip file"),
        (lambda file: os.truncate(file, 1 << 40), "not a zip file"),
        (lambda file: file.write_bytes(b""), "empty"),
        (lambda file: file.write_bytes(b"\0" * 999), "not a whole torch file"),
        (lambda file: file.write_bytes(pickle.dumps({"a": 1})), "not a whole torch file"),
        (lambda file: tarfile.open(file, "w").close() or file.write_bytes(b"\0" * 257 + b"ustar\0"), "a tar archive"),
        (lambda file: file.unlink(), "No such file"),
        (lambda file: (file.unlink(), os.mkfifo(file)), "not a regular file"),
    ],
)
def test_broken_files_are_one_line(tmp_path, edit, says):
    file = archive(tmp_path, dictionary({"a": view(SIX, 0, (2, 3), (3, 1))}))
    assert read_torch(file)["a"][1]().shape == (2, 3)
    edit(file)
    with pytest.raises(DataError) as error:
        read_torch(file)
    message = str(error.value)
    assert message.startswith(f"{file}: not a ") and says in message and "\n" not in message


def test_a_list_of_entries_as_long_as_the_file_is_not_read(tmp_path):
    file = archive(tmp_path, dictionary({}))
    content = bytearray(file.read_bytes())
    end = content.rindex(b"PK\5\6")
    filler = 20 << 20
    content[end + 12 : end + 16] = (filler + end).to_bytes(4, "little")  # its size, and where it begins
    content[end + 16 : end + 20] = bytes(4)
    file.write_bytes(content[:end] + bytes(filler) + content[end:])
    with pytest.raises(DataError, match="its list of entries is of"):
        read_torch(file)


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_a_data_error_or_leaves_tensors(tmp_path, layout, data):
    file = tmp_path / "a.bin"
    save_torch(file, every_dtype(), layout == "legacy")
    content = bytearray(file.read_bytes())
    places = st.integers(0, len(content) - 1)
    for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=5)):
        content[place] = byte
    file.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), places))])
    try:
        tensors = read_torch(file)
    except DataError as error:
        assert "\n" not in str(error)
        return
    for tensor, read in tensors.values():
        if np.prod(tensor.shape, dtype=float) < 1e6:
            assert read().shape == tensor.shape
