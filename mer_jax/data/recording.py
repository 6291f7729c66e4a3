"""One pass over a media file: the sound, the faces and the frames of its windows, while nothing else is held.

A clip is a file with one window, which is all of it. Nothing here imports JAX: this runs in a worker, and asks for the
faces in frames (mer_jax/data/workers.py).
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mer_jax.data.clips import Absent
from mer_jax.data.decoding import with_face
from mer_jax.data.faces import FACE_SIZE, Faces, MainFace, align, fit, unfit
from mer_jax.data.frames import Block, key_frame_before, numbered_blocks
from mer_jax.data.sound import read_sound
from mer_jax.data.sound_windows import sound_windows
from mer_jax.data.streams import Unreadable, best_stream, check_media, opened
from mer_jax.data.timing import at_most, choose_frames, frame_times, segment_centres
from mer_jax.runtime.files import of_the_system

BLOCK = 16  # frames that are searched for faces at once, as in extraction


class Window(NamedTuple):
    """A part of a recording, seconds from its beginning."""

    start: float = 0.0
    end: float = math.inf


WHOLE = Window()


class Wanted(NamedTuple):
    """What is read of each window; None for what is not."""

    sample_rate: int | None  # of its sound
    num_frames: int | None  # whole frames
    most_faces: int | None  # frames that are searched for the main face

    @property
    def modalities(self) -> list[str]:
        names = ("speech", "video", "image")
        return [name for name, value in zip(names, self, strict=True) if value is not None]

    def without(self, modalities: Sequence[str]) -> "Wanted":
        """All but these."""
        fields = dict(zip(("speech", "video", "image"), self._fields, strict=True))
        return self._replace(**{fields[name]: None for name in modalities if name in fields})

    def one_by_one(self) -> list["Wanted"]:
        """One modality each."""
        nothing = Wanted(None, None, None)
        return [nothing._replace(**{name: value}) for name, value in self._asdict().items() if value is not None]


class Recording(NamedTuple):
    """A media file and its windows, in the order of their starts."""

    path: Path
    track: str = ""  # see `read_sound`
    windows: Sequence[Window] = (WHOLE,)
    hidden: Sequence[str] = ()  # modalities that are not read of it


Contents = dict[str, np.ndarray | Absent]  # by modality: int16 [S], uint8 RGB crops and frames [T, H, W, 3]


def read_window(recording: Recording, wanted: Wanted) -> Generator[np.ndarray, list[Faces], Contents | Unreadable]:
    """A worker's job: the contents of a recording's only window; Unreadable for a file that is no media."""
    try:
        check_media(recording.path)
    except Unreadable as reason:
        return Unreadable(str(reason))
    return (yield from Reading(recording, wanted).next_window())


def read_windows(recording: Recording, wanted: Wanted) -> Generator[np.ndarray | Contents, list[Faces] | None, None]:
    """A worker's job: yields the contents of each window as it is read, and between them frames to find faces in.

    Raises Unreadable for a file that is no media.
    """
    check_media(recording.path)
    reading = Reading(recording, wanted)
    for _ in recording.windows:
        contents = yield from reading.next_window()
        yield contents


class Reading:
    """The state of a pass."""

    def __init__(self, recording: Recording, wanted: Wanted):
        wanted = wanted.without(recording.hidden)
        self.sounds = sounds(recording, wanted.sample_rate) if wanted.sample_rate else None
        self.pictures = Pictures(recording, wanted) if wanted.num_frames or wanted.most_faces else None

    def next_window(self) -> Generator[np.ndarray, list[Faces], Contents]:
        """The next window's contents, of each modality that is wanted."""
        contents: Contents = {}
        if self.sounds:
            contents["speech"] = tried(lambda: next(self.sounds))  # type: ignore[arg-type]
        if self.pictures:
            try:
                contents |= yield from self.pictures.next_window()
            except Exception as error:
                self.pictures.failure = self.pictures.failure or reason_of(error)
                contents |= dict.fromkeys(self.pictures.modalities, self.pictures.failure)
        return contents


def tried(read: Callable[[], np.ndarray]) -> np.ndarray | Absent:
    """What is read, or why it cannot be."""
    try:
        return read()
    except Exception as error:
        return reason_of(error)


def reason_of(error: Exception) -> Absent:
    """What a worker says of an error, which it raises where the system is at fault, or it lacks memory."""
    if of_the_system(error) or isinstance(error, MemoryError):
        raise error
    if isinstance(error, StopIteration):  # after an error that ended the pass
        return Absent("the recording cannot be read on")
    return Absent(str(error) if isinstance(error, Absent) else f"{type(error).__name__}: {error}")


def sounds(recording: Recording, sample_rate: int) -> Iterator[np.ndarray]:
    """Mono int16 [S] of each window."""
    if list(recording.windows) == [WHOLE]:
        yield read_sound(recording.path, sample_rate, recording.track)
    else:
        yield from sound_windows(recording.path, sample_rate, recording.track, recording.windows)


@dataclass
class Plan:
    """The frames of a window that are wanted, and what has come of those that are decoded."""

    faces: np.ndarray  # sorted numbers of those that are searched; one that is shown long may stand twice
    frames: np.ndarray  # and of those that are wanted whole
    main_face: MainFace = field(default_factory=MainFace)
    crops: list[np.ndarray] = field(default_factory=list)
    pictures: list[np.ndarray] = field(default_factory=list)

    @property
    def first(self) -> int:
        return min((int(numbers[0]) for numbers in (self.faces, self.frames) if len(numbers)), default=-1)

    @property
    def last(self) -> int:
        return max((int(numbers[-1]) for numbers in (self.faces, self.frames) if len(numbers)), default=-1)


class Pictures:
    """The faces and frames of windows that may overlap, each decoded once.

    All frames in one order are searched in blocks, as in extraction; each window follows a main face of its own.
    """

    def __init__(self, recording: Recording, wanted: Wanted):
        self.recording, self.wanted = recording, wanted
        self.modalities = wanted._replace(sample_rate=None).modalities
        self.failure: Absent | None = None
        self.plans: deque[Plan] | None = None
        self.blocks: Iterator[tuple[list[int], Block]] = iter(())
        self.reached = -1  # the last frame that is decoded

    def begin(self) -> deque[Plan]:
        """Chooses all windows' frames, and starts decoding at the first."""
        path, wanted = self.recording.path, self.wanted
        seconds, times, stamps = shown_seconds(path)
        plans = deque[Plan]()
        for window in self.recording.windows:
            low, high = np.searchsorted(seconds, [window.start, window.end]) if window != WHOLE else (0, len(times))
            chosen = [np.zeros(0, int)] * 2
            for i, (most, choose) in enumerate(((wanted.most_faces, at_most), (wanted.num_frames, segment_centres))):
                if most is not None:
                    chosen[i] = low + choose_frames(times[low:high], partial(choose, most))
            plans.append(Plan(chosen[0], chosen[1]))
        numbers = np.unique(np.concatenate([x for plan in plans for x in (plan.faces, plan.frames)]))
        if len(numbers):
            start = key_frame_before(path, int(numbers[0]), stamps) if numbers[0] else 0
            groups = (numbers[i : i + BLOCK].tolist() for i in range(0, len(numbers), BLOCK))
            self.blocks = zip(groups, numbered_blocks(path, numbers, stamps, BLOCK, start), strict=False)
        return plans

    def next_window(self) -> Generator[np.ndarray, list[Faces], Contents]:
        """The next window's crops and frames. Raises what `frame_times` does."""
        if self.failure:
            return dict.fromkeys(self.modalities, self.failure)
        if self.plans is None:
            self.plans = self.begin()
        plan = self.plans[0]
        while self.reached < plan.last and (block := next(self.blocks, None)):
            yield from self.take(*block)
        self.plans.popleft()
        contents: Contents = {}
        if self.wanted.most_faces:
            crops = with_face(np.array(plan.crops, np.uint8).reshape(-1, FACE_SIZE, FACE_SIZE, 3))
            contents["image"] = crops if len(crops) else Absent("no face")
        if self.wanted.num_frames:
            contents["video"] = np.stack(plan.pictures) if plan.pictures else Absent("no frame can be decoded")
        return contents

    def take(self, numbers: list[int], block: Block) -> Generator[np.ndarray, list[Faces], None]:
        """Adds a block's frames to the windows that they are in."""
        assert self.plans
        begun = takewhile(lambda plan: plan.first <= numbers[-1], self.plans)
        active = [plan for plan in begun if plan.last >= numbers[0]]
        searched = [i for i, number in enumerate(numbers) if any(held(plan.faces, number) for plan in active)]
        faces_of: dict[int, Faces] = {}
        if searched:
            part = block if len(searched) == len(numbers) else block.some(searched)
            fitted, to_frame = fit(part)
            faces_of = {i: unfit(faces, to_frame) for i, faces in zip(searched, (yield fitted), strict=True)}
        for i, number in enumerate(numbers):
            crops: dict[int, np.ndarray] = {}  # by the number of the face
            for plan in active:
                for _ in range(held(plan.faces, number)):
                    main = plan.main_face.choose(faces_of[i].boxes)
                    if main is not None:
                        if main not in crops:
                            crops[main] = align(block.frames[i], faces_of[i].landmarks[main], FACE_SIZE)
                        plan.crops.append(crops[main])
                plan.pictures += [block.frames[i].copy()] * held(plan.frames, number)
        self.reached = numbers[-1]


def held(numbers: np.ndarray, number: int) -> int:
    """How often a number is among sorted ones."""
    low, high = np.searchsorted(numbers, number), np.searchsorted(numbers, number, "right")
    return int(high - low)


def shown_seconds(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """When each frame is shown, s from the file's beginning [T]; and its `Timing`."""
    times, stamps = frame_times(path)
    with opened(path) as container:
        stream = best_stream(container, "video")
        begins = (container.start_time or 0) / 1e6
        base = float(stream.time_base or 1)
        counted = stamps is None and len(times) > 1 and times[0] == 0 and (np.diff(times) == 1).all()
        if counted:  # frames without times
            base, begins = 1 / float(stream.average_rate or 25), 0.0
    return times * base - begins, times, stamps
