"""What is said when in a recording: SubRip (.srt), WebVTT (.vtt), or a text without times."""

import html
import re
from pathlib import Path
from typing import NamedTuple

from mer_jax.data.encodings import decode
from mer_jax.data.recording import Window
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import MOST_BYTES, open_regular

SUFFIXES = (".srt", ".vtt", ".txt")
TIME = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
TIMES = re.compile(rf"^\s*{TIME}\s*-->\s*{TIME}", re.MULTILINE)
MARKUP = re.compile(r"<[^>\n]*>|\{\\[^}\n]*\}")  # <i>, <v Anna>, {\an8}


class Cue(NamedTuple):
    """A line of a transcript."""

    start: float  # s
    end: float
    text: str


class Subtitles(NamedTuple):
    """Lines with their times, or a text that has none."""

    cues: tuple[Cue, ...] = ()
    text: str = ""

    def said_in(self, window: Window) -> str:
        """What is said in a window: the lines of which the larger part, or a second, lies in it."""
        lines = []
        for cue in self.cues:
            shared = min(cue.end, window.end) - max(cue.start, window.start)
            if shared > 0 and shared >= min(1.0, (cue.end - cue.start) / 2):
                lines.append(cue.text)
        return " ".join(lines)


def beside(media: Path) -> Path | None:
    """The subtitles of a recording that bear its name."""
    return next((path for suffix in SUFFIXES if (path := media.with_suffix(suffix)).is_file()), None)


def read_subtitles(path: Path) -> Subtitles:
    """Raises DataError for what cannot be read, or .srt and .vtt without a line."""
    try:
        with open_regular(path, MOST_BYTES) as file:
            text, _ = decode(file.read())
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    matches = list(TIMES.finditer(text))
    if not matches:
        if path.suffix.lower() == ".txt":
            return Subtitles(text=text.strip())
        raise DataError(f"{path}: no subtitles in it: expected lines like 00:00:01,000 --> 00:00:04,000")
    cues = []
    for match in matches:
        start, end = (seconds(match.groups()[part : part + 4]) for part in (0, 4))
        lines = text[text.find("\n", match.end()) + 1 :].split("\n\n")[0] if "\n" in text[match.end() :] else ""
        said = " ".join(html.unescape(MARKUP.sub("", lines)).split())
        if said and end > start:
            cues.append(Cue(start, end, said))
    return Subtitles(tuple(sorted(cues)))


def seconds(parts: tuple[str | None, ...]) -> float:
    """Hours, minutes, seconds and their decimals."""
    hours, minutes, whole, decimals = (part or "0" for part in parts)
    return int(hours) * 3600 + int(minutes) * 60 + int(whole) + int(decimals) / 10 ** len(decimals)
