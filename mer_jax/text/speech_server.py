"""The transcriber behind a server: any that speaks OpenAI's audio transcriptions (OpenAI, vLLM, speaches, ...)."""

import asyncio
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import openai

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.runtime.errors import UsageError
from mer_jax.text.client import Access, Failed, Refused, Session, Stated
from mer_jax.text.sounds import SAMPLE_RATE, SHORTEST, Inaudible, audible, seconds_of, wav
from mer_jax.text.transcript_settings import TranscriptSettings
from mer_jax.text.transcripts import Hearing, Transcript

MOST_CHARACTERS = 40  # that are said in a second; a model that repeats itself writes more
SOME_CHARACTERS = 200  # that any sound may have


class ServerTranscriber:
    """See `Transcriber`. Raises UsageError for a budget in money without a price, and without a key.

    asks: False where it only plans, for which it needs no key.
    """

    name = "openai"

    def __init__(self, settings: TranscriptSettings, extraction: ExtractionSettings, asks: bool = True):
        self.settings, self.model, self.language = settings.openai, settings.openai.model, settings.language
        self.extraction = extraction
        self.access = Access("transcriber openai", "transcripts.openai", self.settings, asks)
        if self.settings.max_cost and not self.settings.minute_price:
            raise UsageError("transcripts.openai.max_cost needs minute_price")
        self.stopped = ""

    def plan(self, clips: Sequence[Clip], spent: Hearing) -> str:
        settings, seconds = self.settings, seconds_of(clips, self.extraction)
        more = f", and {count:,} of a length that they do not tell" if (count := seconds.count(0.0)) else ""
        lines = [
            f"{len(clips):,} clips, about {sum(seconds) / 60:,.1f} minutes of sound{more}; none for what is silent"
        ]
        if settings.minute_price:
            before = f"after ${self.cost(spent.seconds):,.2f} in {spent.requests:,} earlier requests"
            lines.append(f"about ${self.cost(sum(seconds)):,.2f}, {before}")
        if settings.max_minutes:
            lines.append(f"budget over all starts: {settings.max_minutes:,.1f} minutes")
        if settings.max_cost:
            lines.append(f"budget over all starts: ${settings.max_cost:,.2f}")
        return "\n    ".join(lines)

    def transcribe(self, sounds: Iterable[tuple[str, Clip]], spent: Hearing) -> Iterator[Transcript]:
        """See `Transcriber` and `Session.run`."""
        session = SpeechSession(self, spent)
        yield from session.run(sounds)
        self.stopped = session.stopped

    def cost(self, seconds: float) -> float:
        """In the currency of the price."""
        return seconds / 60 * self.settings.minute_price


class SpeechSession(Session[tuple[str, Clip], Transcript]):
    """One call of `transcribe`, and what it has spent."""

    items, reply, ahead = "clips", "a transcription", 2
    own_faults = (400, 415, 422)  # also said of a sound that is none to the server

    def __init__(self, transcriber: ServerTranscriber, spent: Hearing):
        super().__init__(transcriber.access, transcriber.settings, transcriber.settings.concurrency)
        self.transcriber, self.settings = transcriber, transcriber.settings
        self.spent = Hearing(spent.requests, spent.seconds)
        self.decoders = asyncio.Semaphore(transcriber.extraction.workers or os.cpu_count() or 1)

    async def answer(self, item: tuple[str, Clip]) -> Transcript | None:
        """The transcript of one clip. None: nothing was asked."""
        (key, clip), usage = item, Hearing()
        try:
            async with self.decoders:
                waveform = await asyncio.to_thread(audible, clip, self.transcriber.extraction)
            pieces = [await self.until_answered(partial(self.request, each, usage)) for each in self.cut(waveform)]
        except (Inaudible, Refused) as reason:
            return Transcript(key, None, str(reason), usage)
        except Absent as reason:
            return Transcript(key, None, str(reason), usage, final=False)
        except Failed as failed:
            return Transcript(key, None, str(failed), usage, final=False) if usage.requests else None
        text = " ".join(filter(None, pieces))
        return Transcript(key, text or None, "" if text else "no speech heard", usage)

    def cut(self, waveform: np.ndarray) -> list[np.ndarray]:
        """A sound [S] in the pieces that are sent."""
        size = int(self.settings.piece_seconds * SAMPLE_RATE)
        return [waveform[start : start + size] for start in range(0, max(1, waveform.size - SHORTEST), size)]

    async def request(self, sound: np.ndarray, usage: Hearing) -> str:
        """One request within the budget: what the server has heard in a sound [S]."""
        settings, cost = self.settings, self.transcriber.cost
        seconds = sound.size / SAMPLE_RATE
        heard = self.spent.seconds + self.reserved + seconds
        if not self.stopped and 0 < settings.max_minutes < heard / 60:
            self.stopped = f"the budget of {settings.max_minutes:,.1f} minutes is spent"
        if not self.stopped and 0 < settings.max_cost < cost(heard):
            self.stopped = f"the budget of {settings.max_cost:,.2f} is spent"
        if self.stopped:
            raise Failed(self.stopped)
        billed = Hearing(1)
        self.reserved += seconds
        try:
            file = wav(sound)
            language = self.transcriber.language
            question = json.dumps([settings.model, language, hashlib.sha256(file).hexdigest()])
            async with self.time_limit():
                response = await self.client.audio.transcriptions.with_raw_response.create(
                    model=settings.model,
                    file=("sound.wav", file, "audio/wav"),
                    # A server that honours it bills one that a killed start asked only once.
                    extra_headers={"Idempotency-Key": hashlib.sha256(question.encode()).hexdigest()},
                    language=language or openai.omit,
                )
            billed.seconds = seconds
            reply = json.loads(response.content)
        finally:
            self.reserved -= seconds
            self.spent.add(billed)
            usage.add(billed)
        if reply.get("error"):
            raise Stated(reply["error"])
        text = " ".join(self.access.redact(reply["text"]).split())
        self.answered, self.failures = True, 0
        if len(text) > MOST_CHARACTERS * seconds + SOME_CHARACTERS:
            raise Refused(f"{len(text):,} characters, more than can be said in {seconds:.1f} s")
        return text
