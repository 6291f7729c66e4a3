"""Asking a server that speaks OpenAI's API (OpenAI, Azure, vLLM, Ollama, ...), however often it takes.

Requests run side by side; a slot is held while a request is under way, not while one waits to try again. The key
comes from the environment (OPENAI_API_KEY) and is written nowhere.
"""

import asyncio
import json
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, ClassVar, Generic, TypeVar

import openai

from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.text.server_settings import ServerSettings
from mer_jax.text.transport import Bounded

LONGEST_WAIT = 300.0  # seconds; a server that asks for more is not waited for
LONGEST_BACKOFF = 30.0  # seconds
LONGEST_REPLY = 10  # times `timeout_s`, which is for every byte
PATIENCE = 20  # items in a row that the server fails before the rest is left for another start
MOST_TOLD = 250  # characters of what a server says of an error

Item = TypeVar("Item")
Result = TypeVar("Result")
Reply = TypeVar("Reply")


class Refused(Exception):
    """The server will not answer this request. The message is the reason."""


class Failed(Exception):
    """The server did not answer, however often it was asked. The message is the reason."""


class Cut(Exception):
    """A reply ends at its limit before there is an answer in it. The message is the reason."""


class Stated(Exception):
    """An error that the server states in an answer that is called good. The message is the reason."""

    def __init__(self, body: Any):
        super().__init__(f"the server answers an error ({body})")
        self.body = body
        self.status_code = body.get("code") or body.get("status") if isinstance(body, dict) else None


class Access:
    """A server's address, and the key that it is asked with.

    Args:
        who: asks, for messages: "annotator openai".
        section: of the settings.
        asks: False where nothing is, for which no key is needed.

    Raises:
        UsageError: there is no key, or what stands in its place is none.
    """

    def __init__(self, who: str, section: str, settings: ServerSettings, asks: bool):
        self.who = who
        self.key = os.environ.get("OPENAI_API_KEY", "").strip()
        self.base_url = settings.base_url or os.environ.get("OPENAI_BASE_URL")
        if not (self.key.isascii() and self.key.isprintable()):
            raise UsageError(f"{who}: OPENAI_API_KEY holds characters that no key has: copy it again")
        if asks and not self.key and not self.base_url:
            raise UsageError(f"{who}: set OPENAI_API_KEY, or {section}.base_url of a server without")

    def told(self, text: str) -> str:
        """What a server says, in short; cut only when a key in it is whole no more."""
        return self.redact(text)[:MOST_TOLD]

    def redact(self, text: str) -> str:
        """Text of the server without the key, should it repeat it."""
        return text.replace(self.key, "[key]") if self.key else text


class Session(ABC, Generic[Item, Result]):
    """A client, its slots, and what becomes of the items that it asks about. `stopped`: why it ended early.

    Attributes:
        items: what they are called.
        reply: what a good answer is called.
        ahead: items under way for each slot: those that wait to try again leave theirs to others.
        own_faults: statuses that may be one item's fault before any is answered.
    """

    items: ClassVar[str]
    reply: ClassVar[str]
    ahead: ClassVar[int]
    own_faults: ClassVar[tuple[int, ...]] = ()

    def __init__(self, access: Access, settings: ServerSettings, concurrency: int):
        self.access, self.attempts, self.timeout_s = access, settings.attempts, settings.timeout_s
        self.client = openai.AsyncOpenAI(
            base_url=access.base_url,
            api_key=access.key or "none",
            timeout=settings.timeout_s,
            # What was sent to one address goes to no other.
            http_client=openai.DefaultAsyncHttpxClient(transport=Bounded(), follow_redirects=False),
            max_retries=0,  # the library would hold a slot while it waits, and would not ask the budget
        )
        self.slots, self.room = asyncio.Semaphore(concurrency), self.ahead * concurrency
        self.reserved = 0.0  # money, for requests under way
        self.answered = False
        self.failures = 0  # items in a row
        self.stopped = ""

    @abstractmethod
    async def answer(self, item: Item) -> Result | None:
        """What has come of an item; None: it was not asked about at all."""

    def run(self, items: Iterable[Item]) -> Iterator[Result]:
        """Answers as they come. Ends early, with `stopped` set, when a budget is spent or the server keeps failing.

        Raises DataError where the server refuses the key or does not know the model.
        """
        with asyncio.Runner() as runner:
            results = self.results(iter(items))

            async def some() -> list[Result] | None:
                return await anext(results, None)

            while (done := runner.run(some())) is not None:
                yield from done

    async def results(self, items: Iterator[Item]) -> AsyncIterator[list[Result]]:
        """Results as they come. Only so many items are taken as can be under way."""
        under_way: set[asyncio.Task[Result | None]] = set()
        try:
            while True:
                if not self.stopped:
                    for item in islice(items, self.room - len(under_way)):
                        under_way.add(asyncio.create_task(self.answer(item)))
                if not under_way:
                    return
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                yield [result for result in await asyncio.gather(*done) if result]
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            await self.client.close()

    async def until_answered(self, ask: Callable[[], Awaitable[Reply]]) -> Reply:
        """What `ask` gives, tried until the server answers.

        Raises Refused or Failed where it does not, and DataError where the server refuses everything.
        """
        reason, pause, status = "", 0.0, 0
        advice = "check the key, base_url and model"
        for attempt in range(self.attempts):
            await asyncio.sleep(pause)
            stated = 0.0
            async with self.slots:
                try:
                    return await ask()
                except openai.APIStatusError as error:
                    status, reason = error.status_code, self.access.told(describe(error))
                    if status == 413:
                        raise Refused(reason) from None
                    if (status < 500 and status not in (408, 409, 425, 429)) or "insufficient_quota" in said(error):
                        if not self.answered and status not in self.own_faults:  # not this item's fault
                            raise DataError(f"{self.access.who}: {reason}: {advice}") from None
                        break
                    stated = retry_after(error.response.headers)
                except TimeoutError:
                    reason = "the server's answer does not end"
                except openai.APIConnectionError as error:  # timeouts as well
                    reason = self.access.told(f"{error} {error.__cause__ or ''}".strip())
                except Stated as error:
                    reason = self.access.told(str(error))
                except Cut as cut:
                    reason = str(cut)
                    break
                except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                    reason = f"the server's answer is not {self.reply}"
            if stated > LONGEST_WAIT:
                reason = f"{reason}; the server asks to wait for {stated:.0f} s"
                break
            pause = max(stated, min(0.5 * 2**attempt, LONGEST_BACKOFF) * random.uniform(0.5, 1.0))
        self.failures += 1
        if self.failures >= PATIENCE:
            if not self.answered and status in self.own_faults:  # of all of them
                raise DataError(f"{self.access.who}: {reason}: {advice}")
            self.stopped = f"the server failed {self.failures} {self.items} in a row: {reason}"
        raise Failed(reason)

    def time_limit(self) -> asyncio.Timeout:
        """For one request and its whole answer: the client's own limit starts anew at every byte."""
        return asyncio.timeout(LONGEST_REPLY * self.timeout_s)


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
