"""Work in processes that can be lost: a clip that crashes, hangs or eats memory costs itself and nothing else.

Each process is a fresh Python that imports only what the function it is sent needs (not JAX, unless that does).
An alarm that the process sets for itself kills it when a clip takes too long, even inside a codec and even when
this process is gone. Processes are kept for the next call.
"""

import atexit
import os
import pickle
import re
import resource
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from mer_jax.data.clips import Absent
from mer_jax.runtime.files import of_the_system
from mer_jax.runtime.signals import signals_blocked

MEMORY = 4 * 2**30  # bytes that a worker may allocate
SECRET = re.compile("KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)  # in names of environment variables
IDLE: list["Worker"] = []  # kept from earlier calls


def send(connection: Connection, message: Any) -> None:
    """`Connection.send`, but arrays go as they are instead of into a pickle, and are copied once by either end."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, 5, buffer_callback=buffers.append)
    arrays = [buffer.raw() for buffer in buffers]
    connection.send((body, [array.nbytes for array in arrays]))
    for array in arrays:
        while array.nbytes:
            array = array[os.write(connection.fileno(), array) :]


def receive(connection: Connection) -> Any:
    """What the other end has sent with `send`: a private socket pair joins this process and its own children."""
    body, sizes = connection.recv()
    arrays: list[Any] = [np.empty(size, np.uint8) for size in sizes]
    for array in arrays:
        view = memoryview(array)
        while view.nbytes:
            count = os.readv(connection.fileno(), [view])
            if not count:
                raise EOFError
            view = view[count:]
    return pickle.loads(body, buffers=arrays)


class Worker:
    """One process, busy with at most one item."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        # Decoders of strangers' files see no credentials.
        environment = {name: value for name, value in os.environ.items() if not SECRET.search(name)}
        environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", f"from mer_jax.data.workers import serve; serve({theirs.fileno()})"]
        with theirs, signals_blocked():
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)
        self.connection = Connection(ours.detach())

    def close(self) -> None:
        """Ends the process whatever it is doing."""
        self.connection.close()
        self.process.kill()
        self.process.wait()


@atexit.register
def dismiss() -> None:
    """Ends the processes that wait for work."""
    while IDLE:
        IDLE.pop().close()


@dataclass
class Task:
    """An item on its way through a worker."""

    worker: Worker
    seconds: float  # that it may take
    done: bool = False
    result: Any = None

    def step(self, answer: Callable[[Any], Any]) -> None:
        """Takes the worker's next message: a question, the result, or silence because it has died."""
        try:
            kind, self.result = receive(self.worker.connection)
        except (EOFError, OSError):
            self.done, self.result = True, Absent(cause_of_death(self.worker.process.wait(), self.seconds))
            return
        if kind == "question":
            send(self.worker.connection, answer(self.result))
        else:
            self.done = True
            IDLE.append(self.worker)


def idle_worker() -> Worker:
    """One that has finished earlier work, or a new one."""
    while True:
        try:
            worker = IDLE.pop()
        except IndexError:  # not asked for before: another thread may take the last one
            return Worker()
        if worker.process.poll() is None:
            return worker


def cause_of_death(code: int, seconds: float) -> str:
    """Why a worker is gone, from its exit code."""
    if code == -signal.SIGALRM:
        return f"not done within {seconds:.3g} s"
    return f"crashed ({signal.Signals(-code).name})" if code < 0 else f"crashed (exit code {code})"


def map_in_workers(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    seconds: Callable[[Any], float],
    *,
    count: int = 0,
    answer: Callable[[Any], Any] = lambda question: None,
) -> Iterator[Any]:
    """Each item's result in order, or in its place the Absent that says why there is none: see `attempt`.

    At most two items per process are under way or waiting to be taken.

    Args:
        function: importable by name, or a partial of such. It returns the result, or is a generator that yields
            questions, is sent what `answer` makes of each in this process, and returns the result.
        seconds: how long an item may take, or a generator between two questions.
        count: processes; 0 for one per core.

    Raises:
        OSError: the system was at fault, and not the item (`of_the_system`).
    """
    count = count or os.cpu_count() or 1
    items, tasks = iter(items), deque[Task]()
    try:
        while True:
            busy: dict[Any, Task] = {task.worker.connection: task for task in tasks if not task.done}
            for item in islice(items, min(count - len(busy), 2 * count - len(tasks))):
                task = Task(idle_worker(), seconds(item))
                send(task.worker.connection, (function, item, task.seconds))
                tasks.append(task)
                busy[task.worker.connection] = task
            if not tasks:
                return
            if tasks[0].done:
                result = tasks.popleft().result
                if isinstance(result, OSError):
                    raise result
                yield result
            else:
                for connection in wait(list(busy)):
                    busy[connection].step(answer)
    finally:
        for task in tasks:
            if not task.done:
                task.worker.close()


def step_through(
    function: Callable[[Any], Any], item: Any, seconds: float, answer: Callable[[Any], Any]
) -> Iterator[None]:
    """A generator in a worker, question by question: hands over after each of them.

    Arguments as of `map_in_workers`.

    Raises:
        Absent: the worker's reason, or why it is gone.
        OSError: the system was at fault.
    """
    task = Task(idle_worker(), seconds)
    send(task.worker.connection, (function, item, seconds))
    try:
        while not task.done:
            task.step(answer)
            yield
    finally:
        if not task.done:
            task.worker.close()
    if isinstance(task.result, Absent | OSError):
        raise task.result


def serve(descriptor: int) -> None:
    """A worker's life: one item after the other, until its parent is gone."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    with Connection(descriptor) as parent, suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            function, item, seconds = receive(parent)
            for message in attempt(function, item, seconds, partial(receive, parent)):
                send(parent, message)


def attempt(
    function: Callable[[Any], Any], item: Any, seconds: float, receive: Callable[[], Any]
) -> Generator[tuple[str, Any], None, None]:
    """Messages to the parent: questions, then the result, the Absent that says why there is none, or an OSError."""
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        result = function(item)
        reply = None
        while isinstance(result, Generator):
            question = result.send(reply)
            signal.setitimer(signal.ITIMER_REAL, 0)
            yield "question", question
            reply = receive()
            signal.setitimer(signal.ITIMER_REAL, seconds)
    except StopIteration as stop:
        result = stop.value
    except Absent as reason:
        result = Absent(str(reason))
    except MemoryError:
        result = Absent(f"needs more than {MEMORY / 2**30:.0f} GiB of memory")
    except Exception as error:  # whatever a damaged file makes of a decoder
        result = error if of_the_system(error) else Absent(f"{type(error).__name__}: {error}")
    signal.setitimer(signal.ITIMER_REAL, 0)
    yield "result", result
