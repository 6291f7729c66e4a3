"""What keeps other web pages from using a server that a person's browser can reach."""

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from socket import gethostname

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HARMLESS = {"GET", "HEAD"}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class OwnPagesOnly:
    """Refuses what a browser sends for another site's page, and what comes under a name that is not the server's.

    The latter is what DNS rebinding makes of a foreign page: one of the same origin, under a foreign name. Addresses
    and `localhost` are nobody's to rebind.

    Args:
        names: those that the server goes by beside them and the machine's own.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()):
        self.app = app
        self.names = {"localhost", gethostname().lower(), *map(str.lower, names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                for name, value in HEADERS.items():
                    MutableHeaders(scope=message).setdefault(name, value)
            await send(message)

        status, error = self.refused(scope["method"], Headers(scope=scope))
        app = JSONResponse({"error": error}, status) if error else self.app
        await app(scope, receive, send_with_headers)

    def refused(self, method: str, headers: Headers) -> tuple[int, str]:
        """A status and a sentence; the latter is empty for what is let through."""
        host = headers.get("host", "")
        name = host_name(host)
        if not (is_address(name) or name in self.names):
            return (
                421,
                f"this server does not go by the name {name[:99]!r}: start it with --name=NAME for each of its names",
            )
        origin = headers.get("origin")
        foreign = origin is not None and origin.partition("://")[2] != host
        if method not in HARMLESS and (foreign or headers.get("sec-fetch-site", "none") not in ("none", "same-origin")):
            return 403, "pages of other sites may not use this server"
        return 200, ""


def host_name(host: str) -> str:
    """A Host header without its port and an IPv6 address's brackets, in lower case."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host).strip("[]").lower()


def is_address(name: str) -> bool:
    """Whether it is an IP address."""
    with suppress(ValueError):
        return bool(ip_address(name))
    return False


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches it."""
    return host == "localhost" or (is_address(host) and ip_address(host).is_loopback)
