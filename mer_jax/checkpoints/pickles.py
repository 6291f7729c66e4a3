"""Pickles read without running code: plain containers, and what a few named functions make of their arguments.

Python's own unpickler looks names up, makes objects and sets their state; the machine here has no such opcodes. What
it takes in time and memory is in proportion to a pickle's length.
"""

import pickletools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

MOST_BYTES = 2**26
MOST_OPCODES = 2**22  # a tensor takes some forty
MOST_CHARACTERS = 2**16  # of a text
LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINSTRING", "SHORT_BINSTRING"),  # text of Python 2
}
CONSTANTS: dict[str, Callable[[], Any]] = {
    **{"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False},
    **{"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict},
}
CALLS_AND_CONTAINERS = {
    *("PROTO", "FRAME", "STOP", "MARK", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "APPEND", "APPENDS", "SETITEM"),
    *("SETITEMS", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "BINPERSID"),
    *("REDUCE", "BUILD"),
}
OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
READ: dict[str, Callable[[BinaryIO], Any]] = {  # what reads the arguments of those
    opcode.name: opcode.arg.reader if opcode.arg else lambda _: None
    for opcode in pickletools.opcodes
    if opcode.name in {*LITERALS, *CONSTANTS, *CALLS_AND_CONTAINERS}
} | {"GLOBAL": lambda stream: b" ".join(stream.readline().rstrip() for _ in range(2)).decode()}


class Refused(ValueError):
    """A pickle that asks for more than tensors and plain containers."""


def unpickle(stream: BinaryIO, names: Mapping[str, Any], persistent: Callable[[Any], Any]) -> Any:
    """What the pickle that begins here holds; the stream is left behind its end.

    Args:
        stream: with MOST_BYTES at most.
        names: what a pickle may ask for, "module name": values, and functions that it may call. A function gets what
            a hostile pickle gives it, raises ValueError or TypeError for what it cannot use, and takes as long for
            long arguments as for short ones.
        persistent: such a function, of the ids of what is stored elsewhere.

    Raises:
        Refused: it asks for what no checkpoint needs.
        ValueError, TypeError, LookupError: it is not a whole pickle.
    """
    stack: list[Any] = []
    below_marks: list[list[Any]] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        nonlocal stack
        values, stack = stack, below_marks.pop()
        return values

    for _ in range(MOST_OPCODES):
        opcode = OPCODES.get(stream.read(1))
        if opcode is None:
            raise ValueError("a broken pickle")
        if opcode.name not in READ:
            raise Refused(f"it holds the opcode {opcode.name}")
        argument: Any = READ[opcode.name](stream)
        match opcode.name:
            case "STOP":
                return stack.pop()
            case name if name in LITERALS:
                if isinstance(argument, str) and len(argument) > MOST_CHARACTERS:
                    raise Refused(f"it holds a text of {len(argument):,} characters")
                stack.append(argument)
            case name if name in CONSTANTS:
                stack.append(CONSTANTS[name]())
            case "MARK":
                below_marks.append(stack)
                stack = []
            case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                size = int(name[-1])
                stack[-size:] = [tuple(stack[-size:])]
            case "TUPLE":
                values = since_mark()
                stack.append(tuple(values))
            case "APPEND":
                value = stack.pop()
                _top(list, stack).append(value)
            case "APPENDS":
                values = since_mark()
                _top(list, stack).extend(values)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _top(dict, stack).update(plain_dict([(key, value)]))
            case "SETITEMS":
                values = since_mark()
                _top(dict, stack).update(plain_dict(zip(values[::2], values[1::2], strict=True)))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_named(names, argument))
            case "STACK_GLOBAL":
                name, module = _top(str, stack), stack[-2]
                stack[-2:] = [_named(names, f"{module} {name}" if isinstance(module, str) else "")]
            case "BINPERSID":
                stack.append(persistent(stack.pop()))
            case "REDUCE":
                arguments, function = _top(tuple, stack), stack[-2]
                if not callable(function):
                    raise Refused("it calls what is no function")
                stack[-2:] = [function(*arguments)]
            case "BUILD":  # of a state_dict, whose `_metadata` are versions of modules: nothing that is needed
                if not isinstance(stack.pop(), dict) or not isinstance(stack[-1], dict):
                    raise Refused("it sets the state of an object")
    raise Refused("it takes more steps than any checkpoint")


def plain_dict(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dictionary with text and numbers as keys alone: to hash what nests deep overflows the stack."""
    content = {}
    for key, value in pairs:
        if not isinstance(key, str | int | float | None):
            raise Refused(f"it has a {type(key).__name__} as a key")
        content[key] = value
    return content


def _top(kind: type, stack: list[Any]) -> Any:
    """The top of the stack, which must be of this kind."""
    if not isinstance(stack[-1], kind):
        raise Refused(f"it takes a {type(stack[-1]).__name__} for a {kind.__name__}")
    return stack[-1]


def _named(names: Mapping[str, Any], name: str) -> Any:
    if name not in names:
        raise Refused(f"it asks for {name[:80].replace(' ', '.')!r}")
    return names[name]
