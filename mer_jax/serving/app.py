"""The routes of a server, and how each of its refusals is told."""

import asyncio
import json
import math
import sys
import time
import traceback
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from mer_jax.recognition.recognizer import Recognizer
from mer_jax.recognition.timeline import Moment
from mer_jax.runtime.errors import DataError
from mer_jax.serving.batching import Batches
from mer_jax.serving.browsers import OwnPagesOnly
from mer_jax.serving.limits import Limits
from mer_jax.serving.metrics import Metrics
from mer_jax.serving.page import page
from mer_jax.serving.uploads import Upload, received

GONE = 499  # as nginx has it: the client has not waited for its answer
LONGEST_WAIT = 60  # seconds that a refused client is told to wait


class Service:
    """What the routes share.

    Args:
        run: the name by which the run is told.
        folder: for uploads; private.
        names: see `OwnPagesOnly`.
    """

    def __init__(self, run: str, folder: Path, limits: Limits, names: Iterable[str] = ()):
        self.run, self.folder, self.limits = run, folder, limits
        self.metrics = Metrics()
        self.batches: Batches | None = None  # until everything is loaded and compiled
        self.stopping = False
        self.over = asyncio.Event()  # what is not done now never will be
        self.clips = 0  # uploaded, waiting or worked on
        self.lately = 1.0  # seconds that an answer took
        self.page, self.policy = "", ""
        self.app = Starlette(
            routes=[
                Route("/", self.show),
                Route("/health", self.health),
                Route("/metrics", self.count),
                Route("/predict", self.measured(self.predict), methods=["POST"]),
                Route("/timeline", self.measured(self.timeline), methods=["POST"]),
            ],
            middleware=[Middleware(OwnPagesOnly, names=names)],
            exception_handlers={HTTPException: refusal, Exception: failure},
        )

    def begin(self, recognizer: Recognizer) -> None:
        """From now on clips are taken."""
        self.batches = Batches(recognizer, self.limits, self.metrics)
        self.page, self.policy = page(self.run, recognizer.ensemble.shape.labels, self.limits)

    def stop(self) -> None:
        """Takes nothing new; what is under way has `Limits.grace` seconds."""
        self.stopping = True
        asyncio.get_running_loop().call_later(self.limits.grace, self.over.set)

    @property
    def state(self) -> str:
        return "stopping" if self.stopping else "ready" if self.batches else "loading"

    async def health(self, request: Request) -> Response:
        """Whether clips are taken, and what they are recognised by."""
        known: dict[str, Any] = {"status": self.state, "run": self.run}
        if self.batches:
            shape = self.batches.recognizer.ensemble.shape
            known |= {"labels": list(shape.labels), "modalities": list(shape.dims)}
        return JSONResponse(known, 200 if self.state == "ready" else 503)

    async def count(self, request: Request) -> Response:
        """Metrics for Prometheus."""
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def show(self, request: Request) -> Response:
        """The page."""
        if not self.batches:
            return Response("loading", 503, {"Refresh": "2"}, "text/plain")
        headers = {"Content-Security-Policy": self.policy, "Permissions-Policy": "camera=(self), microphone=(self)"}
        return Response(self.page, headers=headers, media_type="text/html")

    async def predict(self, request: Request, stack: AsyncExitStack) -> Response:
        """A clip's line."""
        batches, upload = await self.taken(request, stack)
        line = upload.named(await self.waited(batches.line(upload.file), upload, request))
        return JSONResponse(line, 422 if "error" in line else 200)

    async def timeline(self, request: Request, stack: AsyncExitStack) -> Response:
        """Lines of JSON: the number of windows, then each window's line, with its face as a JPEG file in base64."""
        window, step = (number(request, *bounds) for bounds in (("window", 5.0, 0.5, 600.0), ("step", 2.5, 0.5, 600.0)))
        batches, upload = await self.taken(request, stack)
        moments = batches.moments(upload.file, window, step)
        stack.push_async_callback(moments.aclose)
        count = await self.waited(anext(moments), upload, request)
        return StreamingResponse(self.lines(count, moments, upload), media_type="application/x-ndjson")

    async def lines(self, count: Any, moments: AsyncGenerator[Any, None], upload: Upload) -> AsyncIterator[str]:
        """The text of a timeline."""
        try:
            yield text({"file": upload.name, "windows": count})
            with suppress(StopAsyncIteration):
                while True:
                    some: list[Moment] = await self.waited(anext(moments), upload)
                    faces = ({"face": b64encode(face).decode()} if face else {} for _, face in some)
                    yield "".join(
                        text(upload.named(moment.line) | face) for moment, face in zip(some, faces, strict=True)
                    )
        except HTTPException as error:
            yield text({"error": error.detail})

    async def taken(self, request: Request, stack: AsyncExitStack) -> tuple[Batches, Upload]:
        """A place among the clips that are under way, and the request's clip; both until the stack is left.

        Raises:
            HTTPException: there is no place, or what comes is no clip.
        """
        if self.stopping or not self.batches:
            raise HTTPException(503, f"this server is {self.state}", {"Retry-After": "5"})
        if self.clips >= self.limits.queue:
            wait = min(LONGEST_WAIT, math.ceil(self.lately))
            raise HTTPException(429, f"{self.clips} clips are under way, the most at once", {"Retry-After": str(wait)})
        stack.enter_context(self.place())
        try:
            async with asyncio.timeout(self.limits.timeout):
                context = received(request, self.folder, self.limits.most_bytes)
                return self.batches, await stack.enter_async_context(context)
        except TimeoutError as error:
            late = f"the clip has not come within {self.limits.timeout:g} s"
            raise HTTPException(408, late, {"Connection": "close"}) from error

    @contextmanager
    def place(self) -> Iterator[None]:
        """One more clip."""
        self.clips += 1
        self.metrics.queue.set(self.clips)
        try:
            yield
        finally:
            self.clips -= 1
            self.metrics.queue.set(self.clips)

    async def waited(self, work: Awaitable[Any], upload: Upload, request: Request | None = None) -> Any:
        """The result of work, which is cancelled where there will be none.

        request: whose body is read, and whose client may go.

        Raises:
            HTTPException: 422, or 503 or 504 because time is over.
            ClientDisconnect: nobody waits for the result.
        """
        task, over = asyncio.ensure_future(work), asyncio.create_task(self.over.wait())
        gone = asyncio.ensure_future(request.receive()) if request else over
        try:
            await asyncio.wait({task, over, gone}, timeout=self.limits.timeout, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if over.done():
                raise HTTPException(503, "this server is stopping")
            if gone.done():
                raise ClientDisconnect
            raise HTTPException(504, f"no answer within {self.limits.timeout:g} s")
        except DataError as error:
            raise HTTPException(422, upload.told(str(error))) from error
        finally:
            for each in {task, over, gone}:
                each.cancel()
            await asyncio.wait({task, over, gone})

    def measured(
        self, route: Callable[[Request, AsyncExitStack], Coroutine[Any, Any, Response]]
    ) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """A route that is counted and timed, and whose stack is left when the answer has been sent."""

        async def endpoint(request: Request) -> Response:
            start, path = time.monotonic(), request.url.path

            def done(status: int) -> None:
                self.metrics.requests.labels(path, str(status)).inc()
                if status == 200:
                    self.lately = time.monotonic() - start
                    self.metrics.seconds.labels(path).observe(self.lately)

            async with AsyncExitStack() as stack:
                try:
                    response = await route(request, stack)
                except HTTPException as error:
                    response = refusal(request, error)
                except ClientDisconnect:
                    response = Response(status_code=GONE)
                except Exception as error:
                    response = failure(request, error)
                stack.callback(done, response.status_code)
                return Within(response, stack.pop_all())

        return endpoint


class Within(Response):
    """A response, and what is left when it has been sent, or its client is gone."""

    def __init__(self, response: Response, stack: AsyncExitStack):
        self.response, self.stack = response, stack

    async def __call__(self, *arguments: Any) -> None:
        """An ASGI application."""
        async with self.stack:
            await self.response(*arguments)


def number(request: Request, name: str, default: float, least: float, most: float) -> float:
    """A number in the query. Raises HTTPException for what is none."""
    given = request.query_params.get(name, str(default))
    with suppress(ValueError):
        if least <= float(given) <= most:
            return float(given)
    raise HTTPException(400, f"{name}={given[:99]!r}: expected seconds from {least:g} to {most:g}")


def text(line: dict[str, Any]) -> str:
    """A line of JSON."""
    return json.dumps(line, ensure_ascii=False) + "\n"


def refusal(request: Request, error: Exception) -> Response:
    """What a client is told of its own mistakes, and of limits."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def failure(request: Request, error: Exception) -> Response:
    """What a client is told of ours."""
    traceback.print_exception(error, file=sys.stderr)
    return JSONResponse({"error": "an error of the server, which its log tells of"}, 500)
