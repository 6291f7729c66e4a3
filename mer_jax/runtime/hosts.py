"""Several hosts that share one workdir: each takes its own part of the work, or one does it for all.

All run the same stages. What is kept in the workdir is read in step, so that all go on from the same; the first host
writes it (mer_jax/runtime/files.py), except for what each has computed of its own clips.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.distributed import global_state  # as Orbax does: nothing public gives the hosts' store of keys
from jax.experimental import multihost_utils

from mer_jax.runtime.errors import DataError, LostHost
from mer_jax.runtime.host_errors import GONE

Item = TypeVar("Item")
Value = TypeVar("Value")

MEETINGS = count()  # every host has the same ones


def is_first_host() -> bool:
    """Whether this host writes what all have; so does the only one."""
    return jax.process_index() == 0


def own_part(items: Sequence[Item]) -> Sequence[Item]:
    """Every n-th item, for this one of n hosts."""
    return items[jax.process_index() :: jax.process_count()]


@contextmanager
def together() -> Iterator[None]:
    """Around what needs every host.

    Raises:
        LostHost: another host is gone; the line ends with what JAX says of it.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        raise LostHost(f"{GONE % 'another host'} ({str(error).splitlines()[0]})") from error


def meet(what: str, found: str = "") -> None:
    """Waits until every host is here, and so its files are.

    Not by a collective, whose patience ends after half a minute: another host may be at work for hours.

    Raises:
        LostHost: another host is gone.
        DataError: another one has `found` something else.
    """
    if jax.process_count() == 1:
        return
    client: Any = global_state.client
    here = f"meet/{next(MEETINGS)} {what}/"
    pause = 0.001
    with together():
        client.key_value_set(f"{here}{jax.process_index()}", found or "-")
        while len(answers := client.key_value_dir_get(here)) < jax.process_count():
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
    if len({said for _, said in answers}) > 1:
        one = "give them one --workdir, and one $MER_JAX_CACHE, to share"
        raise DataError(f"the hosts of --distributed see different files ({what}): {one}")


@contextmanager
def first_host_first(what: str) -> Iterator[None]:
    """The other hosts enter the block when the first has left it, and find its work done."""
    if jax.process_index() > 0:
        meet(what)
    yield
    if jax.process_index() == 0:
        meet(what)


def in_step(
    what: str, read: Callable[[], Value], found: Callable[[Value], object] = lambda value: value is None
) -> Value:
    """What every host reads of what is kept: none reads before all are here, nor goes on before all have read.

    found: of what was read, what decides how the hosts go on.

    Raises:
        DataError: another host has found something else.
    """
    meet(f"{what}, to be read")
    value = read()
    meet(what, str(found(value)))
    return value


def over_hosts(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(trials, *shared)`, where each host computes its share of the trials and has the outputs of all.

    Leaves of trials and outputs have a leading axis of trials; the last trial is repeated where they do not divide
    evenly.
    """

    def spread(trials: Any, *shared: Any) -> Any:
        hosts = jax.process_count()
        if hosts == 1:
            return function(trials, *shared)
        size = jax.tree.leaves(trials)[0].shape[0]
        each = -(-size // hosts)
        own = np.minimum(np.arange(each) + each * jax.process_index(), size - 1)
        outputs = jax.device_get(function(jax.tree.map(lambda x: x[own], trials), *shared))
        meet("trials")
        with together():
            everyones = multihost_utils.process_allgather(outputs, tiled=True)
        return jax.tree.map(lambda x: jnp.asarray(x[:size]), everyones)

    return spread
