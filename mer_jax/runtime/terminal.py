"""What reaches a terminal or a log is text alone, whatever names, labels and a server's messages hold."""

import io
import re
import sys
from typing import TextIO

# What moves the cursor, colours or titles (C0 but for tab, DEL, C1), and what turns writing around.
STEERING = re.compile("[\0-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    r"""A line of text with \u001b for what steers a terminal: as JSON writes it, so that JSON stays what it says."""
    return STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class Harmless(io.TextIOWrapper):
    """A text stream that writes `harmless` lines, and \\udcff for what is no text at all: names need be none."""

    def __init__(self, stream: io.TextIOWrapper):
        buffering = stream.line_buffering
        super().__init__(stream.buffer, stream.encoding, "backslashreplace", line_buffering=buffering)

    def write(self, text: str) -> int:
        super().write("\n".join(map(harmless, text.split("\n"))))
        return len(text)


def print_harmlessly() -> None:
    """From now on, for all that this process prints."""
    for name in ("stdout", "stderr"):
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            setattr(sys, name, Harmless(stream))


def terminal() -> TextIO | None:
    """Standard error as it is, for what is to steer it; None if it is no terminal."""
    if not sys.stderr.isatty():
        return None
    return sys.__stderr__ if isinstance(sys.stderr, Harmless) else sys.stderr
