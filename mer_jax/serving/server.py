"""The server's life: a port, a run that is loaded behind it, and an end in good order."""

import asyncio
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mer_jax.recognition.recognizer import Recognizer
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.scratch import scratch_folder
from mer_jax.serving.app import Service
from mer_jax.serving.limits import Limits
from mer_jax.serving.warming import warm

HEAD_SECONDS = 20  # in which a client has to say what it wants
MOST_CONNECTIONS = 4  # for each place in the queue


def serve(workdir: Path, host: str, port: int, names: Sequence[str], limits: Limits) -> None:
    """Serves a finished run until a signal comes, which takes its usual course then.

    Raises:
        UsageError: the port cannot be had.
        DataError: the run cannot be loaded.
    """
    listening = listener(host, port)
    with listening, scratch_folder("mer-serve-") as folder:
        asyncio.run(serving(workdir, listening, folder, names, limits))


async def serving(workdir: Path, listening: socket.socket, folder: Path, names: Sequence[str], limits: Limits) -> None:
    """`serve` on an open socket. Clips are taken once a line on standard output says where."""
    service = Service(workdir.resolve().name, folder, limits, names)
    server, loop, failures = Server(service), asyncio.get_running_loop(), list[BaseException]()

    def begin(recognizer: Recognizer) -> None:
        service.begin(recognizer)
        print(address(listening), flush=True)

    def fail(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    def load() -> None:
        try:
            recognizer = Recognizer.load(workdir)
            warm(recognizer, limits.batch_clips)
            loop.call_soon_threadsafe(begin, recognizer)
        except BaseException as error:
            loop.call_soon_threadsafe(fail, error)

    print(f"{address(listening)}: loading {workdir}", file=sys.stderr)
    threading.Thread(target=load, daemon=True).start()  # which an end need not wait for
    try:
        await server.serve([listening])
    finally:
        if service.batches:
            service.batches.close()
    if failures:
        raise failures[0]


class Server(uvicorn.Server):
    """uvicorn, without its log; it tells the service when it stops."""

    def __init__(self, service: Service):
        limits, self.service = service.limits, service
        super().__init__(
            uvicorn.Config(
                service.app,
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=MOST_CONNECTIONS * limits.queue,
                timeout_graceful_shutdown=int(limits.grace) + 5,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers what has begun."""
        self.service.stop()
        await super().shutdown(sockets)


class Connection(H11Protocol):
    """A client that does not say within HEAD_SECONDS what it wants is not listened to any longer."""

    deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The timer runs from here, and from the end of each answer."""
        super().connection_made(transport)
        self.watch()

    def handle_events(self) -> None:
        """Whatever comes."""
        super().handle_events()
        self.watch()

    def on_response_complete(self) -> None:
        """An answer is sent."""
        super().on_response_complete()
        self.watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        super().connection_lost(exc)
        if self.deadline:
            self.deadline.cancel()

    def watch(self) -> None:
        """Starts the timer where a request is waited for, unless it runs; stops it where one is there."""
        if self.cycle and not self.cycle.response_complete:
            if self.deadline:
                self.deadline.cancel()
                self.deadline = None
        elif not self.deadline:
            self.deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UsageError."""
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(place[:2], family=family)
    except OSError as error:
        raise UsageError(f"--host={host} --port={port}: {error.strerror}") from error


def address(listening: socket.socket) -> str:
    """Where a socket listens, for a browser."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
