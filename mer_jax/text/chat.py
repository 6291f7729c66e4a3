"""The annotator behind a server: any that speaks OpenAI's chat completions (OpenAI, Azure, vLLM, Ollama, ...).

Requests run side by side; a slot is held while a request is under way, not while one waits to try again. The key
comes from the environment (OPENAI_API_KEY) and is written nowhere.
"""

import asyncio
import hashlib
import json
import os
import random
import re
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any

import openai

from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.text.answers import Answer, Unusable, Usage, parse, schema
from mer_jax.text.rankings import ChatSettings
from mer_jax.text.templates import ask, repair
from mer_jax.text.transport import Bounded
from mer_jax.text.wording import CONTENT, LENGTH, Wording, is_refusal

LONGEST_WAIT = 300.0  # seconds; a server that asks for more is not waited for
LONGEST_BACKOFF = 30.0  # seconds
LONGEST_REPLY = 10  # times `timeout_s`, which is for every byte
PATIENCE = 20  # transcripts in a row that the server fails before the rest is left for another start
MOST_TIMES = 64  # the tokens of `max_tokens` that a model may have to think and reply
MOST_TOLD = 250  # characters of what a server says of an error
WAITING = 4  # transcripts under way for each slot: those that wait to try again leave theirs to others


class Refused(Exception):
    """The server will not answer this request. The message is the reason."""


class Failed(Exception):
    """The server did not answer, however often it was asked. The message is the reason."""


class Cut(Exception):
    """A reply ends at its limit before there is a ranking in it. The message is the reason."""


class Stated(Exception):
    """An error that the server states in an answer that is called good. The message is the reason."""

    def __init__(self, body: Any):
        super().__init__(f"the server answers an error ({body})")
        self.body = body
        self.status_code = body.get("code") or body.get("status") if isinstance(body, dict) else None


class ChatAnnotator:
    """Asks a chat model for the rankings. Raises UsageError for a budget in money without prices, and without a key.

    asks: False where it only plans, for which it needs no key.
    """

    name = "openai"

    def __init__(self, settings: ChatSettings, asks: bool = True):
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        base_url = settings.base_url or os.environ.get("OPENAI_BASE_URL")
        if not (key.isascii() and key.isprintable()):
            raise UsageError("annotator openai: OPENAI_API_KEY holds characters that no key has: copy it again")
        if asks and not key and not base_url:
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
        short = "; not enough for all of them"
        if most := settings.max_requests:
            enough = len(transcripts) + spent.requests <= most
            lines.append(f"budget over all starts: {most:,} requests{'' if enough else short}")
        if settings.max_cost:
            enough = self.cost(spent) + self.cost(Usage(0, inputs, outputs)) <= settings.max_cost
            lines.append(f"budget over all starts: ${settings.max_cost:,.2f}{'' if enough else short}")
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
            # What was sent to one address goes to no other.
            http_client=openai.DefaultAsyncHttpxClient(transport=Bounded(), follow_redirects=False),
            max_retries=0,  # the library would hold a slot while it waits, and would not ask the budget
        )
        self.slots = asyncio.Semaphore(self.settings.concurrency)
        self.spent = Usage(spent.requests, spent.input_tokens, spent.output_tokens)
        self.reserved = 0.0  # money, for requests under way
        self.schema = schema(labels)
        self.wording = Wording(self.settings.max_tokens)
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
                choice = await self.complete(messages, usage)
                reply = written(choice)
                if choice["message"].get("refusal"):
                    raise Unusable("the model refuses")
                whole = choice.get("finish_reason") != "length"
                return Answer(transcript, parse(reply, self.labels, whole), "", self.redact(reply), usage)
            except Unusable as unusable:
                reason = str(unusable)
                messages = messages + repair(self.annotator.prompt, reply, reason)
            except Refused as refused:
                return Answer(transcript, None, str(refused), self.redact(reply), usage)
            except Failed as failed:
                unfinished = Answer(transcript, None, str(failed), self.redact(reply), usage, final=False)
                return unfinished if usage.requests else None
        return Answer(transcript, None, reason, self.redact(reply), usage)

    async def complete(self, messages: Sequence[Mapping[str, str]], usage: Usage) -> dict[str, Any]:
        """The model's choice, asked for until the server gives one. Adds what that took to `usage`.

        Raises Refused or Failed without one, and DataError where the server refuses everything.
        """
        reason, pause = "", 0.0
        for attempt in range(self.settings.attempts):
            await asyncio.sleep(pause)
            stated = 0.0
            async with self.slots:
                try:
                    return await self.accepted(messages, usage)
                except openai.APIStatusError as error:
                    status, reason = error.status_code, self.told(describe(error))
                    if status == 413:
                        raise Refused(reason) from None
                    if (status < 500 and status not in (408, 409, 425, 429)) or "insufficient_quota" in said(error):
                        if not self.answered:  # not this transcript's fault
                            advice = "check the key, base_url and model"
                            raise DataError(f"annotator openai: {reason}: {advice}") from None
                        break
                    stated = retry_after(error.response.headers)
                except TimeoutError:
                    reason = "the server's answer does not end"
                except openai.APIConnectionError as error:  # timeouts as well
                    reason = self.told(f"{error} {error.__cause__ or ''}".strip())
                except Stated as error:
                    reason = self.told(str(error))
                except Cut as cut:
                    reason = str(cut)
                    break
                except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                    reason = "the server's answer is not a chat completion"
            if stated > LONGEST_WAIT:
                reason = f"{reason}; the server asks to wait for {stated:.0f} s"
                break
            pause = max(stated, min(0.5 * 2**attempt, LONGEST_BACKOFF) * random.uniform(0.5, 1.0))
        self.failures += 1
        if self.failures >= PATIENCE:
            self.stopped = f"the server failed {self.failures} transcripts in a row: {reason}"
        raise Failed(reason)

    async def accepted(self, messages: Sequence[Mapping[str, str]], usage: Usage) -> dict[str, Any]:
        """The model's choice, asked for in one wording after another until the server takes it: then so are all others.

        Raises Refused for what is the transcript's fault, Cut, Stated, and openai's errors.
        """
        base = wording = self.wording
        shared = True
        while True:
            try:
                completion = await self.request(messages, wording, usage)
                if isinstance(completion, dict) and completion.get("error"):
                    raise Stated(completion["error"])
            except (openai.APIStatusError, Stated) as error:
                if not is_refusal(error.status_code, said(error)):
                    raise
                if CONTENT.search(said(error)):
                    raise Refused(self.told(describe(error))) from None
                too_long = bool(LENGTH.search(said(error)))
                shared = shared and not too_long  # other transcripts may be shorter
                other = wording.reworded(said(error), guess=not self.answered)
                if self.wording != base:
                    base = wording = self.wording
                elif other:
                    wording = other
                elif too_long:
                    raise Refused(self.told(describe(error))) from None
                else:
                    raise
                continue
            choice = completion["choices"][0]
            self.check_end(choice)
            if not self.is_cut(choice):
                self.answered, self.failures = True, 0
                if shared:
                    self.adopt(wording)
                return choice
            if wording.tokens >= MOST_TIMES * self.settings.max_tokens:
                raise Cut(f"the reply is cut at {wording.tokens:,} tokens: raise ranking.openai.max_tokens")
            wording = replace(wording, tokens=max(self.wording.tokens, 4 * wording.tokens))

    def check_end(self, choice: Mapping[str, Any]) -> None:
        """Raises Stated where the server, and Refused where its filter ended a reply, whatever there is of it."""
        end = choice.get("native_finish_reason") or choice.get("finish_reason")
        if choice.get("error") or re.search("error|resource", str(end)):
            raise Stated(choice.get("error") or f"finish_reason {end}")
        if re.search("filter|sensitive|safety", f"{end} {choice.get('finish_reason')}", re.IGNORECASE):
            raise Refused(self.redact(f"the server's filter ended the reply (finish_reason {end})"))

    def is_cut(self, choice: Mapping[str, Any]) -> bool:
        """Whether a reply ends at its limit, by thoughts most likely, before there is a ranking in it."""
        if choice.get("finish_reason") != "length":
            written(choice)
            return False
        try:
            parse(written(choice), self.labels, whole=False)
        except Unusable:
            return True
        return False

    def adopt(self, wording: Wording) -> None:
        """Puts all requests in words that the server has taken, and says so."""
        if wording != self.wording:
            changes = self.wording.differences(wording)
            print(f"  {self.settings.model}: the server takes requests with {changes}", file=sys.stderr, flush=True)
            self.wording = wording

    async def request(self, messages: Sequence[Mapping[str, str]], wording: Wording, usage: Usage) -> Any:
        """One request within the budget: the JSON that the server answers."""
        settings, cost = self.settings, self.annotator.cost
        # At most one token per byte; a request of unknown cost must not break the budget.
        most = Usage(0, sum(16 + len(message["content"].encode()) for message in messages), wording.tokens)
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
            async with asyncio.timeout(LONGEST_REPLY * settings.timeout_s):  # the client's own starts at every byte
                response = await self.client.chat.completions.with_raw_response.create(
                    model=settings.model,
                    messages=wording.messages(messages),  # type: ignore[arg-type]
                    extra_headers={"Idempotency-Key": self.idempotency_key(messages, wording)},
                    **wording.fields(self.schema),
                )
            billed = most
            completion = json.loads(response.content)
            billed = stated_usage(completion.get("usage"), most)
            return completion
        finally:
            self.reserved -= cost(most)
            self.spent.add(billed)
            usage.add(billed)

    def idempotency_key(self, messages: Sequence[Mapping[str, str]], wording: Wording) -> str:
        """The same for the same question: a server that honours it bills one that a killed start asked only once."""
        reworded = [str(wording)] * (wording != Wording(self.settings.max_tokens))  # or the refusal might come again
        question = json.dumps([self.settings.model, self.labels, *messages, *reworded], ensure_ascii=False)
        return hashlib.sha256(question.encode()).hexdigest()

    def told(self, text: str) -> str:
        """What a server says, in short; cut only when a key in it is whole no more."""
        return self.redact(text)[:MOST_TOLD]

    def redact(self, text: str) -> str:
        """Text of the server without the key, should it repeat it."""
        return text.replace(self.annotator.key, "[key]") if self.annotator.key else text


def written(choice: Mapping[str, Any]) -> str:
    """What a model has written; TypeError, LookupError or AttributeError for what is no choice of a completion."""
    message = choice["message"]
    content = message.get("content") or ""
    if isinstance(content, list):  # in parts, of which some may be thoughts
        content = "".join(part.get("text", "") for part in content if part["type"] == "text")
    if not isinstance(content, str):
        raise TypeError("content of a completion is text")
    if not content and message.get("tool_calls"):  # by which some servers have a schema followed
        content = message["tool_calls"][0]["function"]["arguments"]
    # Servers that tell thoughts from the answer may take all for thoughts.
    fields = "reasoning_content", "reasoning", "thinking", "analysis"
    thoughts = next((message[name] for name in fields if message.get(name)), "")
    thoughts = thoughts if isinstance(thoughts, str) and choice.get("finish_reason") != "length" else ""
    return content or message.get("refusal") or thoughts


def stated_usage(stated: Any, most: Usage) -> Usage:
    """The tokens that a server says it bills; the `most` that it can, of either kind that it does not say."""

    def tokens(kind: str, most: int) -> int:
        with suppress(LookupError, TypeError, ValueError, OverflowError):
            if (count := int(stated[f"{kind}_tokens"])) >= 0:
                return count
        return most

    return Usage(0, tokens("prompt", most.input_tokens), tokens("completion", most.output_tokens))


def said(error: openai.APIStatusError | Stated) -> str:
    """All that the server says of an error, in lower case."""
    return json.dumps(error.body, ensure_ascii=False).lower()


def describe(error: openai.APIStatusError | Stated) -> str:
    """The status and, from a JSON answer, the message or what stands in its place."""
    body = error.body
    message = body.get("message") or body.get("detail") if isinstance(body, dict) else None
    return f"HTTP {error.status_code}" + (f" ({message})" if message else "")


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait: a number or a date; 0 where it does not say."""
    value = headers.get("retry-after", "")
    with suppress(ValueError):
        return max(0.0, float(value))
    with suppress(ValueError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return 0.0
