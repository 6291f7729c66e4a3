"""Emotions over the time of a long recording: a window slides over it; a csv, and a page to watch it with."""

import json
import os
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from mer_jax.data.clip_files import SOUND_SUFFIXES
from mer_jax.data.clips import Absent
from mer_jax.data.faces import to_jpeg
from mer_jax.data.recording import Contents, Recording, Window
from mer_jax.data.streams import recording_seconds
from mer_jax.data.workers import map_in_workers
from mer_jax.recognition.contents import read_recording
from mer_jax.recognition.files import File
from mer_jax.recognition.lines import header, row
from mer_jax.recognition.recognizer import Recognizer
from mer_jax.recognition.subtitles import Subtitles
from mer_jax.report.templates import environment
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import printable, write_csv, write_whole

SHARD = 32  # windows whose lines appear together
FACES_PER_SECOND = 8  # frames that are searched: a film's 25 would tell little more
LOOKING = 60.0  # seconds that it may take to see how long a recording is
FACE = 64  # px of a thumbnail
# Told apart also by the colour-blind (Okabe and Ito 2008, Tol 2021), on white and on black.
COLOURS = ("#8a93a1", "#d1495b", "#e8a33d", "#3f7fbf", "#8a63b8", "#2f9e77", "#c76fa3", "#5bb5d6", "#a5793c", "#7f9c2e")


class Moment(NamedTuple):
    """A window's line, and its main face as a JPEG file; nothing where it has none."""

    line: dict[str, Any]
    face: bytes


def windows_of(file: File, length: float, step: float) -> list[Window]:
    """Windows of a length over a file, or the part of it, each a step after the one before; the last one holds its end.

    Raises:
        DataError: the file is no media, or does not say how long it is.
    """
    start, end = file.window.start, min(file.window.end, seconds_of(file.path))
    count = 1 + max(0, int(np.ceil((end - start - length) / step - 1e-6)))
    return [Window(round(start + i * step, 3), round(start + i * step + length, 3)) for i in range(count)]


def seconds_of(path: Path) -> float:
    """How long a recording is, by its packets where it says nothing (as browsers record). Raises DataError."""
    (seconds,) = map_in_workers(recording_seconds, [path], lambda path: LOOKING, count=1)
    if isinstance(seconds, Absent):
        raise DataError(f"{path}: {seconds}")
    if not 0 < seconds < 7 * 86400:
        raise DataError(f"{path}: does not say how long it is; write it anew, with ffmpeg -i IN -c copy OUT.mkv")
    return seconds


def recognised(
    recognizer: Recognizer, file: File, windows: Sequence[Window], subtitles: Subtitles, shard: int = SHARD
) -> Iterator[list[Moment]]:
    """What the windows of a recording say, `shard` at a time; it is read in one pass.

    Raises:
        DataError: it cannot be decoded.
    """
    faces = deque[bytes]()  # of windows that are read, and not recognised yet
    most_faces = max(1, round(FACES_PER_SECOND * (windows[0].end - windows[0].start)))
    recording = Recording(file.path, recognizer.audio_track, windows, file.hidden)
    wanted, extraction, find = recognizer.wanted(most_faces), recognizer.extraction, recognizer.detector.find

    def contents() -> Iterator[Contents | Absent]:
        try:
            for each in read_recording(recording, wanted, extraction, find):
                crops = None if isinstance(each, Absent) else each.get("image")
                faces.append(to_jpeg(crops[len(crops) // 2], FACE, 80) if isinstance(crops, np.ndarray) else b"")
                yield each
        except Absent as reason:
            raise DataError(f"{file.path}: {reason}") from reason

    def said(window: Window) -> str:
        return "" if "text" in file.hidden else subtitles.said_in(window) or file.text

    files = [file._replace(window=window, text=said(window)) for window in windows]
    for lines in recognizer.shards(files, contents(), shard):
        yield [Moment(line, faces.popleft()) for line in lines]


def write_timeline(
    path: Path, recording: Path, all_moments: Sequence[Moment], subtitles: Subtitles, labels: Sequence[str]
) -> None:
    """Writes the csv to `path`, and a page beside it that plays the recording from where it lies."""
    write_csv(path.with_suffix(".csv"), header(labels), (row(moment.line, labels) for moment in all_moments))
    with write_whole(path.with_suffix(".html")) as file:
        file.write(page(path.parent, recording, all_moments, subtitles, labels))


def page(
    folder: Path, recording: Path, all_moments: Sequence[Moment], subtitles: Subtitles, labels: Sequence[str]
) -> str:
    """The page as html. folder: where it will lie."""
    probabilities = [moment.line.get("probabilities") for moment in all_moments]
    times = [[moment.line["start"], moment.line["end"]] for moment in all_moments]
    warnings = [moment.line.get("warning") for moment in all_moments]
    colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}
    counts = Counter(moment.line.get("label") for moment in all_moments)
    shares = [(label, counts[label] / len(times), colour) for label, colour in colours.items()]
    data = {
        "labels": list(labels),
        "colours": list(colours.values()),
        "times": times,
        "probabilities": [p and [p[label] for label in labels] for p in probabilities],
    }
    location = quote(os.fsencode(os.path.relpath(recording.resolve(), folder.resolve())))
    return (
        environment()
        .get_template("timeline.html")
        .render(
            name=printable(recording.name),
            source=location,
            sound_only=recording.suffix.lower() in SOUND_SUFFIXES,
            data=json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
            shares=shares,
            scenes=list(scenes(all_moments, subtitles, colours)),
            text=subtitles.text,
            warned=sum(map(bool, warnings)),
            warning=max(filter(None, warnings), key=warnings.count, default=""),
            count=len(times),
            length=times[0][1] - times[0][0],
            step=times[1][0] - times[0][0] if len(times) > 1 else 0,
            clock=clock,
        )
    )


def scenes(all_moments: Sequence[Moment], subtitles: Subtitles, colours: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Stretches of windows with one label, as rows of the page."""
    pending = deque(subtitles.cues)
    groups = [list(group) for _, group in groupby(all_moments, lambda moment: moment.line.get("label"))]
    for i, group in enumerate(groups):
        label, start = group[0].line.get("label"), group[0].line["start"]
        end = groups[i + 1][0].line["start"] if i + 1 < len(groups) else group[-1].line["end"]
        sure = max(group, key=lambda moment: max(moment.line.get("probabilities", {"": 0}).values()))
        said = []
        while pending and (pending[0].start < end or i + 1 == len(groups)):
            said.append(pending.popleft())
        face = sure.face or next((moment.face for moment in group if moment.face), b"")
        yield {
            "start": start,
            "end": end,
            "label": label or "nothing to go by",
            "colour": colours.get(str(label), "transparent"),
            "confidence": max(sure.line["probabilities"].values()) if label else None,
            "face": b64encode(face).decode(),
            "said": said,
        }


def clock(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
