"""Servers that answer every request in one odd way."""

import gzip
import json
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler

from mer_jax.text.client import MOST_TOLD


class Dripping(BaseHTTPRequestHandler):
    """Sends a blank now and then, for ever."""

    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            while True:
                self.wfile.write(b" ")
                time.sleep(0.02)


class Redirecting(BaseHTTPRequestHandler):
    """Sends whoever asks to another address, and notes who comes there."""

    visits = 0

    def do_POST(self):
        type(self).visits += self.path == "/elsewhere"
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(307)
        self.send_header("Location", f"http://localhost:{self.server.server_port}/elsewhere")
        self.end_headers()


class Echoing(BaseHTTPRequestHandler):
    """Repeats the key, at the place where long messages are cut."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        said = json.dumps({"error": {"message": "x" * (MOST_TOLD - 20) + self.headers["Authorization"]}})
        self.send_response(401)
        self.end_headers()
        self.wfile.write(said.encode())


class Compressing(BaseHTTPRequestHandler):
    """Sends a megabyte in a thousandth of it."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(gzip.compress(bytes(2**20)))
