"""Which requests of browsers are let through."""

import pytest

pytest.importorskip("starlette", reason="serving is an extra: pip install -r tests/requirements.txt")

from starlette.datastructures import Headers

from mer_jax.serving.browsers import OwnPagesOnly, is_loopback


@pytest.mark.parametrize(
    "status, method, headers",
    [
        (200, "POST", {"host": "127.0.0.1:8000"}),
        (200, "POST", {"host": "localhost:8000", "origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}),
        (200, "POST", {"host": "[::1]:8000", "origin": "http://[::1]:8000"}),
        (200, "POST", {"host": "Emotions.example.org", "origin": "https://Emotions.example.org"}),
        (200, "GET", {"host": "localhost", "sec-fetch-site": "cross-site"}),  # a link to the page
        (403, "POST", {"host": "localhost:8000", "origin": "http://evil.example"}),
        (403, "POST", {"host": "localhost:8000", "origin": "http://localhost:9000"}),
        (403, "POST", {"host": "localhost:8000", "origin": "null"}),
        (403, "POST", {"host": "localhost:8000", "sec-fetch-site": "cross-site"}),
        (421, "POST", {"host": "evil.example:8000", "origin": "http://evil.example:8000"}),  # rebound
        (421, "GET", {"host": "localhost.evil.example"}),
        (421, "GET", {}),
    ],
)
def test_pages_of_others_are_refused(status, method, headers):
    guard = OwnPagesOnly(None, ["emotions.example.org"])
    assert guard.refused(method, Headers(headers))[0] == status


def test_what_is_loopback():
    hosts = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org", "::")
    assert [is_loopback(host) for host in hosts] == [True, True, True, False, False, False]
