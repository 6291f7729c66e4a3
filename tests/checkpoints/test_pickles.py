import io
import os
import pickle
import struct
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_jax.checkpoints import pickles
from mer_jax.checkpoints.pickles import Refused, unpickle
from mer_jax.checkpoints.torch_files import NAMES
from tests.torch_writer import text

MARK, EMPTY_DICT, EMPTY_TUPLE = pickle.MARK, pickle.EMPTY_DICT, pickle.EMPTY_TUPLE
STOP = pickle.STOP


def read(content, names=NAMES):
    return unpickle(io.BytesIO(content), names, lambda identity: ("stored", identity))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_containers_are_what_python_reads(protocol):
    twice = ["shared", 1.5, None]
    content = {
        "ints": [0, 255, 256, 65536, -1, 2**40, -(2**70)],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "flags": (True, False),
        "shared": [twice, twice],
        7: {"x" * 300: {}},
        "many": list(range(3000)),
    }
    again = read(pickle.dumps(content, protocol))
    assert again == content
    assert again["shared"][0] is again["shared"][1]


def test_a_stream_is_left_behind_the_end():
    stream = io.BytesIO(pickle.dumps([1], 2) + pickle.dumps([2], 2) + b"rest")
    assert [unpickle(stream, {}, id) for _ in range(2)] == [[1], [2]]
    assert stream.read() == b"rest"


class Reduced:
    """Pickles as a call of a function."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


OPCODE = "it holds the opcode"
CANARY = text("touch canary")
DEEP = EMPTY_TUPLE + pickle.TUPLE1 * 100_000


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (pickle.dumps(Reduced(os.system, ("touch canary",)), 2), r"asks for 'posix\.system'"),
        (pickle.dumps(Reduced(os.system, ("touch canary",)), 4), r"asks for 'posix\.system'"),
        (pickle.dumps(Reduced(eval, ("1",)), 2), r"asks for '__builtin__\.eval'"),
        (b"cbuiltins\ngetattr\n.", "getattr"),
        (b"ctorch.hub\nload\n.", r"torch\.hub\.load"),
        (b"ctorch\n_utils._rebuild_tensor_v2\n.", "asks for"),  # dotted
        (b"ctorch._utils\n__builtins__\n.", "asks for"),
        (b"ctorch\nFloatStorage.__class__\n.", "asks for"),
        (b"ccollections\nOrderedDict.fromkeys\n.", "asks for"),
        (text("os") + text("system") + pickle.STACK_GLOBAL + STOP, r"os\.system"),
        (b"K\1" + text("system") + pickle.STACK_GLOBAL + STOP, "asks for"),
        (text("os") + b"K\1" + pickle.STACK_GLOBAL + STOP, "takes a int for a str"),
        (MARK + CANARY + b"ios\nsystem\n.", OPCODE),
        (MARK + b"ccollections\nOrderedDict\n" + pickle.OBJ + STOP, OPCODE),
        (b"ccollections\nOrderedDict\n" + EMPTY_TUPLE + pickle.NEWOBJ + STOP, OPCODE),
        (b"ccollections\nOrderedDict\n" + EMPTY_TUPLE + EMPTY_DICT + pickle.NEWOBJ_EX + STOP, OPCODE),
        (pickle.EXT1 + b"\1.", OPCODE),
        (pickle.EXT2 + b"\1\0.", OPCODE),
        (pickle.EXT4 + b"\1\0\0\0.", OPCODE),
        (pickle.PERSID + b"storage\n.", OPCODE),
        (pickle.NEXT_BUFFER + STOP, OPCODE),
        (b"S'\\8'\n.", OPCODE),
        (pickle.NONE + pickle.DUP + STOP, OPCODE),
        (pickle.LONG4 + b"\xff\xff\xff\x7f" + bytes(9), OPCODE),
        (b"ctorch\nFloatStorage\n" + EMPTY_DICT + pickle.BUILD + STOP, "sets the state"),
        (b"ccollections\nOrderedDict\n" + EMPTY_DICT + pickle.BUILD + STOP, "sets the state"),
        (EMPTY_DICT + EMPTY_TUPLE + pickle.BUILD + STOP, "sets the state"),
        (pickle.EMPTY_LIST + EMPTY_DICT + pickle.BUILD + STOP, "sets the state"),
        (text("f") + EMPTY_TUPLE + pickle.REDUCE + STOP, "calls what is no function"),
        (b"ctorch\nFloatStorage\n" + EMPTY_TUPLE + pickle.REDUCE + STOP, "calls what is no function"),
        (b"ccollections\nOrderedDict\n" + pickle.EMPTY_LIST + pickle.REDUCE + STOP, "takes a list for a tuple"),
        (EMPTY_DICT + DEEP + pickle.NONE + pickle.SETITEM + STOP, "a tuple as a key"),
        (EMPTY_DICT + MARK + pickle.EMPTY_LIST + pickle.NONE + pickle.SETITEMS + STOP, "a list as a key"),
        (EMPTY_TUPLE + pickle.NONE + pickle.APPEND + STOP, "takes a tuple for a list"),
        (text("x" * 2**17) + STOP, "a text of 131,072 characters"),
    ],
)
def test_what_no_checkpoint_needs_is_refused(content, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((Refused, ValueError), match=says):
        read(content)
    assert not list(tmp_path.iterdir())


def test_no_name_of_torchs_table_is_one_of_pythons_own():
    own = {value for value in NAMES.values() if callable(value)}
    assert {function.__module__ for function in own} == {"mer_jax.checkpoints.torch_files"}


@pytest.mark.parametrize("name", [name for name, value in NAMES.items() if callable(value)])
@pytest.mark.parametrize("argument", [pickle.NONE, text("shape"), b"K\1", EMPTY_TUPLE, pickle.EMPTY_LIST, EMPTY_DICT])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 6, 7, 8])
def test_functions_take_no_nonsense(name, argument, count):
    call = f"c{name.replace(' ', chr(10))}\n".encode() + MARK + argument * count + pickle.TUPLE + pickle.REDUCE + STOP
    try:
        made = read(call)
    except (ValueError, TypeError):
        return
    assert made in ({}, ())  # an empty OrderedDict or Size


@pytest.mark.parametrize(
    "content",
    [
        b"",
        pickle.NONE,
        STOP,
        pickle.TUPLE + STOP,
        pickle.BINGET + b"\7.",
        pickle.BINPUT + b"\7.",
        pickle.MEMOIZE + STOP,
        pickle.REDUCE + STOP,
        EMPTY_DICT + MARK + pickle.NONE + pickle.SETITEMS + STOP,
        pickle.SETITEM + STOP,
        pickle.BUILD + STOP,
        pickle.BINPERSID + STOP,
        b"\x99",
    ],
)
def test_broken_pickles(content):
    with pytest.raises((ValueError, LookupError)):
        read(content)


@pytest.mark.parametrize("index", [2**31, 2**32 - 1])
def test_memory_is_in_proportion_to_the_pickle(index):
    """Python's own unpickler makes room for every index up to the one that is named."""
    tracemalloc.start()
    try:
        read(pickle.NONE + pickle.LONG_BINPUT + struct.pack("<I", index) + STOP)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_what_nests_deep_is_read_and_let_go():
    nested = read(pickle.EMPTY_LIST * 100_000 + pickle.APPEND * 99_999 + STOP)
    depth = 0
    while nested:
        (nested,) = nested
        depth += 1
    assert depth == 99_999
    assert read(DEEP + STOP)


def test_steps_are_counted(monkeypatch):
    monkeypatch.setattr(pickles, "MOST_OPCODES", 1000)
    assert read(pickle.NONE * 999 + STOP) is None
    with pytest.raises(Refused, match="more steps"):
        read(pickle.NONE * 1000 + STOP)


def test_pairs_serve_once():
    """One list of pairs and a thousand dictionaries made of it would take a thousand times its memory."""
    pairs = pickle.EMPTY_LIST + MARK + (text("a") + b"K\1" + pickle.TUPLE2) + pickle.APPENDS + pickle.BINPUT + b"\0"
    made = b"ccollections\nOrderedDict\n" + pickle.BINGET + b"\0" + pickle.TUPLE1 + pickle.REDUCE
    assert read(MARK + pairs + made * 2 + pickle.TUPLE + STOP) == ([], {"a": 1}, {})


@given(st.binary(max_size=60), st.sampled_from([2, 4]))
def test_noise_raises_what_it_may(noise, protocol):
    whole = pickle.dumps({"name": [1, (2.5, "text")], "other": {"x": None}}, protocol)
    for content in (noise, whole[: len(noise)] + noise + whole[len(noise) :]):
        with suppress(ValueError, TypeError, LookupError):
            read(content + STOP)
