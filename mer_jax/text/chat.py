"""The annotator behind a server: any that speaks OpenAI's chat completions (OpenAI, Azure, vLLM, Ollama, ...).

Requests run side by side; a slot is held while a request is under way, not while one waits to try again. The key
comes from the environment (OPENAI_API_KEY) and is written nowhere.
"""

import asyncio
import hashlib
import json
import os
import random
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any

import openai

from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.text.answers import Answer, Unusable, Usage, parse, schema
from mer_jax.text.rankings import ChatSettings
from mer_jax.text.templates import ask, repair

LONGEST_WAIT = 300.0  # seconds; a server that asks for more is not waited for
LONGEST_BACKOFF = 30.0  # seconds
PATIENCE = 20  # transcripts in a row that the server fails before the rest is left for another start
WAITING = 4  # transcripts under way for each slot: those that wait to try again leave theirs to others


class Refused(Exception):
    """The server will not answer this request. The message is the reason."""


class Failed(Exception):
    """The server did not answer, however often it was asked. The message is the reason."""


class ChatAnnotator:
    """Asks a chat model for the rankings. Raises UsageError without a key, or for a budget in money without prices."""

    name = "openai"

    def __init__(self, settings: ChatSettings):
        key = os.environ.get("OPENAI_API_KEY", "")
        base_url = settings.base_url or os.environ.get("OPENAI_BASE_URL")
        if not key and not base_url:
            raise UsageError("annotator openai: set OPENAI_API_KEY, or ranking.openai.base_url of a server without")
        if settings.max_cost and not settings.input_price + settings.output_price:
            raise UsageError("ranking.openai.max_cost needs input_price and output_price, per million tokens")
        self.settings, self.model, self.prompt = settings, settings.model, settings.prompt
        self.base_url, self.key = base_url, key
        self.stopped = ""

    def plan(self, transcripts: Sequence[str], labels: Sequence[str], spent: Usage) -> str:
        settings = self.settings
        inputs = sum(self._estimate(ask(self.prompt, text, labels)) for text in transcripts)
        outputs = len(transcripts) * (8 + 4 * len(labels))
        lines = [
            f"{len(transcripts):,} requests, about {inputs:,} input and {outputs:,} output tokens; "
            "at most twice that where replies cannot be used, and more requests where the server fails"
        ]
        if settings.input_price + settings.output_price:
            cost = self.cost(Usage(0, inputs, outputs))
            lines.append(f"about ${cost:,.2f}, after ${self.cost(spent):,.2f} in {spent.requests:,} earlier requests")
        if settings.max_requests:
            lines.append(f"budget over all starts: {settings.max_requests:,} requests")
        if settings.max_cost:
            lines.append(f"budget over all starts: ${settings.max_cost:,.2f}")
        return "\n    ".join(lines)

    def rank(self, transcripts: Iterable[str], labels: Sequence[str], spent: Usage) -> Iterator[Answer]:
        """See `Annotator`. Ends early, with `stopped` set, when the budget is spent or the server keeps failing.

        Raises DataError where the server refuses the key or does not know the model.
        """
        with asyncio.Runner() as runner:
            session = Session(self, labels, spent)
            answers = session.answers(iter(transcripts))

            async def some() -> list[Answer] | None:
                return await anext(answers, None)

            while (done := runner.run(some())) is not None:
                yield from done
            self.stopped = session.stopped

    def _estimate(self, messages: Sequence[Mapping[str, str]]) -> int:
        """About how many tokens messages have: one per Chinese character, one per four others."""
        text = "".join(message["content"] for message in messages)
        wide = sum(character > "\u2e7f" for character in text)
        return 4 * len(messages) + wide + (len(text) - wide) // 4

    def cost(self, usage: Usage) -> float:
        """In the currency of the prices, which are per million tokens."""
        prices = self.settings.input_price, self.settings.output_price
        return (usage.input_tokens * prices[0] + usage.output_tokens * prices[1]) / 1e6


class Session:
    """One call of `rank`: a client, its slots and what it has spent."""

    def __init__(self, annotator: ChatAnnotator, labels: Sequence[str], spent: Usage):
        self.annotator, self.settings, self.labels = annotator, annotator.settings, labels
        self.client = openai.AsyncOpenAI(
            base_url=annotator.base_url,
            api_key=annotator.key or "none",
            timeout=self.settings.timeout_s,
            max_retries=0,  # the library would hold a slot while it waits, and would not ask the budget
        )
        self.slots = asyncio.Semaphore(self.settings.concurrency)
        self.spent = Usage(spent.requests, spent.input_tokens, spent.output_tokens)
        self.reserved = 0.0  # money, for requests under way
        self.schema = schema(labels)
        self.structured = True  # until the server turns out not to know JSON schemas
        self.answered = False
        self.failures = 0  # transcripts in a row
        self.stopped = ""

    async def answers(self, transcripts: Iterator[str]) -> AsyncIterator[list[Answer]]:
        """Answers as they come. Only so many transcripts are taken as can be under way."""
        under_way: set[asyncio.Task[Answer | None]] = set()
        room = WAITING * self.settings.concurrency
        try:
            while True:
                if not self.stopped:
                    for transcript in islice(transcripts, room - len(under_way)):
                        under_way.add(asyncio.create_task(self.answer(transcript)))
                if not under_way:
                    return
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                yield [answer for answer in await asyncio.gather(*done) if answer]
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            await self.client.close()

    async def answer(self, transcript: str) -> Answer | None:
        """The answer for one transcript, asked once more if the reply cannot be used. None: not asked at all."""
        usage, reply, reason = Usage(), "", ""
        messages = ask(self.annotator.prompt, transcript, self.labels)
        for _ in range(2):
            try:
                message = await self.complete(messages, usage)
                reply = self.redact(message.get("content") or message.get("refusal") or "")
                if message.get("refusal"):
                    raise Unusable("the model refuses")
                return Answer(transcript, parse(reply, self.labels), "", reply, usage)
            except Unusable as unusable:
                reason = str(unusable)
                messages = messages + repair(self.annotator.prompt, reply, reason)
            except Refused as refused:
                return Answer(transcript, None, str(refused), reply, usage)
            except Failed as failed:
                return Answer(transcript, None, str(failed), reply, usage, final=False) if usage.requests else None
        return Answer(transcript, None, reason, reply, usage)

    async def complete(self, messages: Sequence[Mapping[str, str]], usage: Usage) -> dict[str, Any]:
        """The model's message, asked for until the server gives one. Adds what that took to `usage`.

        Raises Refused or Failed without one, and DataError where the server refuses everything.
        """
        reason, pause, structured = "", 0.0, True
        for attempt in range(self.settings.attempts):
            await asyncio.sleep(pause)
            stated = 0.0
            async with self.slots:
                structured = structured and self.structured
                try:
                    completion = await self.request(messages, structured, usage)
                    message = completion["choices"][0]["message"]
                    if not isinstance(message.get("content") or "", str):
                        raise TypeError
                    self.answered, self.failures, self.structured = True, 0, structured
                    return message
                except openai.APIStatusError as error:
                    status, reason = error.status_code, self.redact(describe(error))
                    if status in (400, 422) and structured:  # perhaps JSON schemas are not known here
                        structured = False
                        continue
                    if status in (401, 403, 404):  # not this transcript's fault
                        if not self.answered:
                            raise DataError(f"annotator openai: {reason}: check the key, base_url and model") from None
                        break
                    if status < 500 and status not in (408, 409, 425, 429):
                        raise Refused(reason) from None
                    stated = retry_after(error.response.headers)
                except openai.APIConnectionError as error:  # timeouts as well
                    reason = self.redact(str(error))
                except (ValueError, LookupError, TypeError, AttributeError):
                    reason = "the server's answer is not a chat completion"
            if stated > LONGEST_WAIT:
                reason = f"{reason}; the server asks to wait for {stated:.0f} s"
                break
            pause = max(stated, min(0.5 * 2**attempt, LONGEST_BACKOFF) * random.uniform(0.5, 1.0))
        self.failures += 1
        if self.failures >= PATIENCE:
            self.stopped = f"the server failed {self.failures} transcripts in a row: {reason}"
        raise Failed(reason)

    async def request(self, messages: Sequence[Mapping[str, str]], structured: bool, usage: Usage) -> Any:
        """One request within the budget: the JSON that the server answers."""
        settings, cost = self.settings, self.annotator.cost
        # At most one token per byte; a request of unknown cost must not break the budget.
        most = Usage(0, sum(16 + len(message["content"].encode()) for message in messages), settings.max_tokens)
        if not self.stopped and 0 < settings.max_requests <= self.spent.requests:
            self.stopped = f"the budget of {settings.max_requests:,} requests is spent"
        if not self.stopped and 0 < settings.max_cost < cost(self.spent) + self.reserved + cost(most):
            self.stopped = f"the budget of {settings.max_cost:,.2f} is spent"
        if self.stopped:
            raise Failed(self.stopped)
        billed = Usage()
        self.spent.requests += 1
        usage.requests += 1
        self.reserved += cost(most)
        try:
            form = {"type": "json_schema", "json_schema": {"name": "ranking", "strict": True, "schema": self.schema}}
            response = await self.client.chat.completions.with_raw_response.create(
                model=settings.model,
                messages=messages,  # type: ignore[arg-type]
                temperature=0,
                max_tokens=settings.max_tokens,
                response_format=form if structured else openai.omit,  # type: ignore[arg-type]
                extra_headers={"Idempotency-Key": self.idempotency_key(messages)},
            )
            billed = most
            completion = json.loads(response.content)
            if stated := completion.get("usage"):
                billed = Usage(0, int(stated["prompt_tokens"]), int(stated["completion_tokens"]))
            return completion
        finally:
            self.reserved -= cost(most)
            self.spent.add(billed)
            usage.add(billed)

    def idempotency_key(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The same for the same question: a server that honours it bills one that a killed start asked only once."""
        question = json.dumps([self.settings.model, self.labels, *messages], ensure_ascii=False)
        return hashlib.sha256(question.encode()).hexdigest()

    def redact(self, text: str) -> str:
        """Text of the server without the key, should it repeat it."""
        return text.replace(self.annotator.key, "[key]") if self.annotator.key else text


def describe(error: openai.APIStatusError) -> str:
    """The status and, from a JSON answer, the message."""
    message = error.body.get("message") if isinstance(error.body, dict) else None
    return f"HTTP {error.status_code}" + (f" ({message[:200]})" if isinstance(message, str) else "")


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait: a number or a date; 0 where it does not say."""
    value = headers.get("retry-after", "")
    with suppress(ValueError):
        return max(0.0, float(value))
    with suppress(ValueError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return 0.0
