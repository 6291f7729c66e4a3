"""HTTP with replies of a bounded size: a server may send without end."""

from collections.abc import AsyncIterator

import httpx2

MOST_BYTES = 2**24  # of a reply's body


class Bounded(httpx2.AsyncHTTPTransport):
    """httpx2's own transport, whose replies end in an error where they are larger than MOST_BYTES, or compressed."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["Accept-Encoding"] = "identity"  # 16 MiB might become 16 GiB
        response = await super().handle_async_request(request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            await response.stream.aclose()
            raise httpx2.ReadError("a compressed reply, which was not asked for")
        response.stream = BoundedStream(response.stream)
        return response


class BoundedStream(httpx2.AsyncByteStream):
    """The body of a reply."""

    def __init__(self, inner: httpx2.AsyncByteStream):
        self.inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        total = 0
        async for part in self.inner:
            total += len(part)
            if total > MOST_BYTES:
                raise httpx2.ReadError(f"a reply of more than {MOST_BYTES / 2**20:.0f} MiB")
            yield part

    async def aclose(self) -> None:
        await self.inner.aclose()
