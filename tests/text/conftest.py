"""Servers for tests of what asks them."""

from http.server import ThreadingHTTPServer

import pytest


@pytest.fixture
def odd_server(running):
    """A handler's class -> the address of a server of its kind."""
    return lambda handler: f"http://127.0.0.1:{running(ThreadingHTTPServer(('127.0.0.1', 0), handler)).server_port}/v1"
