"""Replies of a server are read up to a limit."""

import asyncio

import httpx2
import pytest

from mer_jax.text import transport
from mer_jax.text.transport import BoundedStream


class Parts(httpx2.AsyncByteStream):
    async def __aiter__(self):
        for part in (b"abc", b"de", b"f"):
            yield part


async def read(stream):
    return [part async for part in stream]


@pytest.mark.parametrize("most", [6, 7])
def test_a_reply_within_the_limit_comes_as_it_is(monkeypatch, most):
    monkeypatch.setattr(transport, "MOST_BYTES", most)
    assert asyncio.run(read(BoundedStream(Parts()))) == [b"abc", b"de", b"f"]


def test_a_larger_one_is_an_error(monkeypatch):
    monkeypatch.setattr(transport, "MOST_BYTES", 5)
    with pytest.raises(httpx2.ReadError, match="a reply of more than"):
        asyncio.run(read(BoundedStream(Parts())))
