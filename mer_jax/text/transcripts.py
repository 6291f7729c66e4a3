"""Sound -> transcripts, by the transcriber that the settings name, behind its cache."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from mer_jax.data.clips import NO_TRANSCRIPT, Absent, Clip
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.files import cache_folder, write_csv
from mer_jax.runtime.terminal import harmless
from mer_jax.text.cache import Cache, file_name
from mer_jax.text.sounds import sound_keys
from mer_jax.text.transcript_settings import TranscriptSettings

NO_WHISPER = 'transcriber whisper: needs the package faster-whisper: pip install "mer_jax[transcribe]"'


@dataclass
class Hearing:
    """What was spent."""

    requests: int = 0
    seconds: float = 0.0  # of sound

    def add(self, other: "Hearing") -> None:
        self.requests += other.requests
        self.seconds += other.seconds


@dataclass(frozen=True)
class Transcript:
    """A transcriber's last word on a sound.

    text: None without one, for the `reason`. final: False where asking again may help.
    """

    sound: str  # key, see `sound_key`
    text: str | None
    reason: str = ""
    usage: Hearing = field(default_factory=Hearing)
    final: bool = True


class Transcriber(Protocol):
    """Writes down what is said. `name`, `model` and the language say which transcripts are the same."""

    name: str
    model: str
    stopped: str  # why `transcribe` ended before its sounds did; "" if it did not

    def plan(self, clips: Sequence[Clip], spent: Hearing) -> str:
        """What `transcribe` would do and cost, for people."""

    def transcribe(self, sounds: Iterable[tuple[str, Clip]], spent: Hearing) -> Iterator[Transcript]:
        """One transcript per key and clip, as they come, in any order; takes sounds only as it gets to them.

        spent: by earlier starts, counted against the budget.
        """


class TranscriptCache(Cache[Transcript, Hearing]):
    """The transcripts of one transcriber, model and language, by sound."""

    def __init__(self, folder: Path, transcriber: Transcriber, language: str):
        identity = {"transcriber": transcriber.name, "model": transcriber.model, "language": language}
        super().__init__(
            folder / file_name(transcriber.name, transcriber.model, language or "any"), identity, Hearing()
        )

    def parse(self, entry: dict[str, Any], whose: Mapping[str, Any]) -> Transcript:
        usage, texts = Hearing(**entry.pop("usage")), (entry["sound"], entry["reason"], entry["text"] or "")
        if not all(isinstance(text, str) for text in texts) or not (usage.requests >= 0 and usage.seconds >= 0):
            raise ValueError("not a transcript")
        return Transcript(usage=usage, **entry)

    def note(self, answer: Transcript) -> None:
        self.answers[answer.sound] = answer


@dataclass(frozen=True)
class Transcripts:
    """Clips with the transcripts that they have, or have been given."""

    transcriber: str  # with model and language
    clips: tuple[Clip, ...]
    given: frozenset[int] = frozenset()  # positions of those whose transcript the transcriber has written
    failures: Mapping[int, str] = field(default_factory=dict)  # position -> why it has written none

    def summary(self) -> str:
        """What has come of it, in a few lines."""
        total = len(self.given) + len(self.failures)
        lines = [f"{len(self.given):,} of {total:,} clips without a transcript given one by {self.transcriber}"]
        lines += [f"  {count:,} without: {reason}" for reason, count in Counter(self.failures.values()).most_common()]
        return "\n".join(map(harmless, lines))

    def section(self) -> dict[str, Any] | None:
        """Of the metrics; None where it was asked about no clip."""
        if not self.given and not self.failures:
            return None
        return {"transcriber": self.transcriber, "given": len(self.given), "failed": len(self.failures)}


def transcribe_clips(
    clips: Sequence[Clip], settings: TranscriptSettings, extraction: ExtractionSettings, dry_run: bool = False
) -> Transcripts:
    """Gives a transcript to every clip that has sound and none, asking only for what the cache lacks.

    dry_run: only say what would be done.
    """
    sounding = [i for i, clip in enumerate(clips) if to_be_heard(clip)]
    if settings.transcriber == "none" or not sounding:
        return Transcripts("none", tuple(clips))
    transcriber = make_transcriber(settings, extraction, asks=not dry_run)
    who = f"{transcriber.name} ({transcriber.model}, language {settings.language or 'as it finds'})"
    keys = dict(zip(sounding, sound_keys([clips[i] for i in sounding]), strict=True))
    clip_of = {key: clips[i] for i, key in keys.items() if not isinstance(key, Absent)}
    folder = Path(settings.cache).expanduser() if settings.cache else cache_folder() / "transcripts"
    with TranscriptCache(folder, transcriber, settings.language) as cache:
        missing = cache.missing(clip_of)
        print(
            f"  {who}: {len(clip_of):,} distinct sounds without a transcript, {len(clip_of) - len(missing):,} answered "
            f"in {cache.path}",
            file=sys.stderr,
        )
        if missing:
            plan = transcriber.plan([clip_of[key] for key in missing], cache.spent)
            print(f"  to do: {plan}", file=sys.stderr, flush=True)
        if missing and not dry_run:
            pairs = lambda keys: ((key, clip_of[key]) for key in keys)  # noqa: E731
            cache.fill(missing, lambda keys: transcriber.transcribe(pairs(keys), cache.spent), "transcripts", "clip")
        answers = dict(cache.answers)
    unasked = Transcript("", None, transcriber.stopped or "not asked yet")
    given, failures = {}, {}
    for i, key in keys.items():
        answer = Transcript("", None, str(key)) if isinstance(key, Absent) else answers.get(key, unasked)
        if answer.text:
            given[i] = replace(clips[i], transcript=answer.text)
        else:
            failures[i] = answer.reason
    without = {i: replace(clips[i], no_transcript=f"{NO_TRANSCRIPT} ({reason})") for i, reason in failures.items()}
    changed = given | without
    return Transcripts(who, tuple(changed.get(i, clip) for i, clip in enumerate(clips)), frozenset(given), failures)


def to_be_heard(clip: Clip) -> bool:
    """Whether a clip has sound and no transcript, and both count."""
    asked = not (clip.transcript or clip.hides("speech") or clip.hides("text"))
    return asked and bool(clip.media or clip.prepared)


def make_transcriber(settings: TranscriptSettings, extraction: ExtractionSettings, asks: bool = True) -> Transcriber:
    """The transcriber of the settings. asks: False where it only plans."""
    if settings.transcriber == "whisper":
        from mer_jax.text.whisper import WhisperTranscriber

        return WhisperTranscriber(settings, extraction)
    from mer_jax.text.speech_server import ServerTranscriber

    return ServerTranscriber(settings, extraction, asks)


def check_transcriber(settings: TranscriptSettings, extraction: ExtractionSettings) -> None:
    """Raises UsageError where the transcriber cannot be asked: a key, a price or its package is missing."""
    if settings.transcriber == "openai":
        make_transcriber(settings, extraction)
    elif not find_spec("faster_whisper"):
        raise UsageError(NO_WHISPER)


def write_transcripts(path: Path, transcripts: Transcripts) -> None:
    """Each clip's transcript, whose it is, and why there is none, as csv."""
    rows = []
    for i, clip in enumerate(transcripts.clips):
        whose = transcripts.transcriber if i in transcripts.given else "the data set" if clip.transcript else ""
        rows.append((clip.name, clip.transcript, whose, "" if clip.transcript else clip.no_transcript))
    write_csv(path, ("name", "text", "by", "reason"), rows)
