"""Sound tracks as mono int16, and whether there is anything to hear on them."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import av
import numpy as np

from mer_jax.data.streams import decoded, opened, sound_track, until_broken

SILENCE = 32.8  # int16 RMS of a window up to which it is silent: -60 dB of full scale
WINDOWS_PER_SECOND = 40
SOUNDING_WINDOWS = 4  # that make a sound: 0.1 s; a click is in one or two
RESAMPLING = (
    "filter_size=64:phase_shift=10:cutoff=0.98"  # at 16 kHz flat to 7; aliases: -23 dB at 8 to 9, below -73 above
)
CANCELLED = 0.2**2  # energy of the channels' sum to that of the loudest, below which they cancel each other
NOTHING = 1e-6  # energy of what is mixed to that of the loudest channel, below which that is all there is to hear
USUAL = 8  # channels up to which FFmpeg has usual places for those that say none
PENDING = 64  # frames that are summed at once
SPARSELY = 0.5  # s between frames that tell the channels' levels


def read_sound(path: Path, sample_rate: int, track: str = "") -> np.ndarray:
    """A sound track as mono int16 [S] at `sample_rate` Hz, any channels and rate in.

    A track that breaks off gives the sound before the break; damaged packets are left out, without a gap, and time
    stamps are not heeded. Of channels that cancel each other (one is the other turned upside down) the loudest is read,
    and a subwoofer's where nothing else sounds.

    Args:
        track: see `sound_track`; the one that FFmpeg thinks best where it is empty.

    Raises:
        Unreadable: there is no such track, or it cannot be decoded.
    """
    levels = Levels()
    waveform = mono(path, sample_rate, track, levels)
    return waveform if levels.lone_channel is None else mono(path, sample_rate, track, levels, levels.lone_channel)


def mono(path: Path, sample_rate: int, track: str, levels: "Levels", channel: int | None = None) -> np.ndarray:
    """int16 [S]: all channels mixed, or one."""
    with opened(path) as container:
        blocks = list(sound_blocks(container, sound_track(container, track), sample_rate, levels, channel))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.int16)


def sound_blocks(
    container: av.container.InputContainer, stream: Any, sample_rate: int, levels: "Levels", channel: int | None = None
) -> Iterator[np.ndarray]:
    """A sound track as mono int16 blocks [S], until it ends or breaks off."""
    return until_broken(resampled(levels.measured(decoded(container, stream)), sample_rate, channel))


class Levels:
    """How loud a track's channels are, and their sum: of a frame in every half second."""

    def __init__(self) -> None:
        self.products = np.zeros((0, 0))  # of each two channels, summed
        self.pending: list[np.ndarray] = []  # [channels, S] of frames that are not in `products` yet
        self.mixed = np.zeros(0, bool)  # channels that are in the mix; FFmpeg leaves a subwoofer's out

    def measured(self, frames: Iterator[av.AudioFrame]) -> Iterator[av.AudioFrame]:
        """Passes frames on."""
        left = 0.0  # samples before the next one that is looked at
        for frame in frames:
            if left <= 0:
                left = SPARSELY * frame.sample_rate
                if frame.layout.nb_channels > 1:
                    self.add(frame)
            left -= frame.samples
            yield frame

    def add(self, frame: av.AudioFrame) -> None:
        """Takes a frame, which is summed with others later: alone, amid decoding, it would take far longer."""
        samples, count = frame.to_ndarray(), frame.layout.nb_channels
        self.pending.append(samples if frame.format.is_planar else samples.reshape(-1, count).T)
        if count > len(self.mixed):
            unknown = 2 < count <= USUAL and frame.layout.name == f"{count} channels"
            layout = av.AudioLayout(f"{count}c") if unknown else frame.layout
            self.mixed = np.array([channel.name != "LFE" for channel in layout.channels])
        if len(self.pending) == PENDING:
            self.sum_up()

    def sum_up(self) -> None:
        """Adds what is pending, each frame without its mean: a constant offset is nothing to hear."""
        self.products = np.pad(self.products, (0, len(self.mixed) - len(self.products)))
        alike: dict[tuple[int, ...], list[np.ndarray]] = {}
        for samples in self.pending:
            alike.setdefault(samples.shape, []).append(samples)
        for (count, _), frames in alike.items():
            stack = np.stack(frames, axis=1).astype(np.float32)  # [channels, frames, S]
            channels = (stack - stack.mean(axis=2, keepdims=True)).reshape(count, -1)
            self.products[:count, :count] += channels @ channels.T
        self.pending = []

    @property
    def lone_channel(self) -> int | None:
        """The loudest channel, from 0, where the mix would be silent: they cancel each other, or it is left out."""
        self.sum_up()
        energies = self.products.diagonal()
        cancel = self.products.sum() < CANCELLED * energies.max(initial=0)
        left_out = energies[self.mixed].sum() < NOTHING * energies.max(initial=0)
        return int(energies.argmax()) if cancel or left_out else None


def resampled(frames: Iterator[av.AudioFrame], sample_rate: int, channel: int | None = None) -> Iterator[np.ndarray]:
    """Frames -> mono int16 blocks [S]. A stream may change its format on the way. channel: see `resampling_graph`."""
    for form, alike in groupby(frames, lambda frame: (frame.format.name, frame.layout.name, frame.sample_rate)):
        first = next(alike)
        graph = resampling_graph(*form, first.layout.nb_channels, sample_rate, channel)
        for frame in chain([first], alike, [None]):
            yield from pulled(graph, frame)


def resampling_graph(
    sample_format: str, layout: str, rate: int, channels: int, sample_rate: int, channel: int | None = None
) -> av.filter.Graph:
    """FFmpeg's resampler at a better setting than its default, which lets aliases of -60 dB pass.

    Of channels whose places are not known, up to 8 have FFmpeg's usual places; more are averaged.

    Args:
        channel: the only one that counts, from 0; all of them where it is None or not there.
    """
    graph = av.filter.Graph()
    pan = None
    if channel is not None and channel < channels:
        pan = f"mono|c0=c{channel}"
    elif channels > USUAL and layout == f"{channels} channels":
        pan = "mono|c0<" + "+".join(f"c{i}" for i in range(channels))
    nodes = [
        graph.add_abuffer(sample_rate=rate, format=sample_format, layout=layout, time_base=Fraction(1, rate)),
        *([graph.add("pan", pan)] if pan else []),
        graph.add("aresample", f"{sample_rate}:{RESAMPLING}"),
        graph.add("aformat", f"sample_fmts=s16:sample_rates={sample_rate}:channel_layouts=mono"),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    return graph


def pulled(graph: av.filter.Graph, frame: av.AudioFrame | None) -> Iterator[np.ndarray]:
    """Pushes one frame, or the end, and takes what is ready."""
    if frame is not None:
        frame.pts = None  # damaged time stamps must not make silence
    graph.push(frame)
    while True:
        try:
            yield graph.pull().to_ndarray()[0]
        except (av.BlockingIOError, av.EOFError):
            return


def is_silent(waveform: np.ndarray, sample_rate: int) -> bool:
    """Whether an int16 waveform [S] never rises above the noise floor for long (see `are_silent`)."""
    step = 10 * sample_rate
    return are_silent((waveform[start : start + step] for start in range(0, waveform.size, step)), sample_rate)


def are_silent(blocks: Iterable[np.ndarray], sample_rate: int) -> bool:
    """Whether a sound in int16 blocks [S] is above the noise floor for less than 0.1 s, or, if shorter, its length.

    A window's RMS is judged without its mean: a constant offset is nothing to hear. Blocks are read up to where it is
    decided.
    """
    window = sample_rate // WINDOWS_PER_SECOND
    sounding = total = 0
    rest = np.zeros(0, np.int16)
    for block in blocks:
        rest = np.concatenate([rest, block])
        count = rest.size // window
        windows, rest = rest[: count * window].reshape(count, window), rest[count * window :]
        sounding += count_sounding(windows)
        total += count
        if sounding >= SOUNDING_WINDOWS:
            return False
    if not total and rest.size:
        sounding, total = count_sounding(rest[None]), 1
    return sounding < max(1, min(SOUNDING_WINDOWS, total))


def count_sounding(windows: np.ndarray) -> int:
    """How many int16 windows [N, S] rise above the noise floor."""
    return int((windows.std(axis=1, dtype=np.float32) > SILENCE).sum())
