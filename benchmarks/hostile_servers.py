"""Servers of completions and transcriptions that mean harm, and what else reaches a run from outside its data set."""

import gzip
import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from benchmarks.hostile_inputs import DEEP, Input, Place, config, data_set

KEY = "sk-of-the-benchmark-0123456789"


def completion(content: str, **usage: object) -> bytes:
    """A well-formed answer."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


RANKING = '{"ranking": ["x", "y"]}'


Answering = Callable[[BaseHTTPRequestHandler, Place], object]


def listening(answer: Answering, place: Place) -> list[str]:
    """A server that answers in its own way: the settings that name it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with suppress(OSError):
                answer(self, place)

        def log_message(self, *arguments: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    place.ports.append(listener.server_port)
    return [f"base_url=http://127.0.0.1:{listener.server_port}/v1", "timeout_s=0.5", "attempts=2"]


def server(name: str, answer: Answering, says: str, *more: str) -> Input:
    """One of chat completions."""

    def make(place: Place) -> list[str]:
        flags = [f"--config.ranking.openai.{setting}" for setting in listening(answer, place)]
        cache = f"--config.ranking.cache={place.folder / 'rankings'}"
        root = data_set(place)
        return ["annotate", *config(root, "--config.ranking.annotator=openai", cache, *flags, *more, modalities="text")]

    return Input("server", name, make, says)


def ear(name: str, answer: Answering, says: str) -> Input:
    """One of audio transcriptions."""

    def make(place: Place) -> list[str]:
        flags = [f"--config.transcripts.openai.{setting}" for setting in listening(answer, place)]
        flags += ["--config.transcripts.transcriber=openai", f"--config.transcripts.cache={place.folder / 'rankings'}"]
        root = data_set(place, "name,label\na,x\nb,y\nc,x\nd,y\n")
        return ["transcribe", *config(root, *flags, modalities="text")]

    return Input("ear", name, make, says)


def body(*parts: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Answering:
    """An answer of these parts."""

    def answer(handler: BaseHTTPRequestHandler, place: Place) -> None:
        handler.send_response(status)
        for key, value in (headers or {}).items():
            handler.send_header(key, value.replace("ADDRESS", place.address))
        handler.end_headers()
        for part in parts:
            handler.wfile.write(part)

    return answer


def endless(handler: BaseHTTPRequestHandler, place: Place) -> None:
    body(b"[")(handler, place)
    while True:
        handler.wfile.write(b"1," * 2**19)


def dripping(handler: BaseHTTPRequestHandler, place: Place) -> None:
    body()(handler, place)
    while True:
        handler.wfile.write(b" ")
        time.sleep(0.1)


def echoed(handler: BaseHTTPRequestHandler, place: Place) -> None:
    said = json.dumps({"error": {"message": f"no such key {handler.headers['Authorization']} \x1b[2J"}}).encode()
    body(said, status=401)(handler, place)


def moved(location: str) -> Answering:
    return body(status=307, headers={"Location": location})


NONE = "without: the server's answer is not a chat completion"
DIGITS = b"9" * 5000
BOMB = gzip.compress(bytes(10**9))
SERVERS = [
    server("an answer without end", endless, "more than 16 MiB"),
    server("an answer that drips", dripping, "the server's answer does not end"),
    server("brackets, 100,000 deep", body(DEEP), NONE),
    server("a list", body(b"[]"), NONE),
    server("choices of another type", body(b'{"choices": {"0": 5}}'), NONE),
    server("content of another type", body(b'{"choices": [{"message": {"content": {"text": 5}}}]}'), NONE),
    server(
        "tokens below zero under a budget",
        body(completion(RANKING, prompt_tokens=-(10**12), completion_tokens=-(10**12))),
        "the budget of 0.00 is spent",
        "--config.ranking.openai.max_cost=0.0005",
    ),
    server("tokens NaN", body(completion(RANKING, prompt_tokens=float("nan"), completion_tokens="many")), "4 of 4"),
    server("tokens of 5,000 digits", body(completion(RANKING).replace(b"{}", b'{"prompt_tokens": %b}' % DIGITS)), NONE),
    server("escape sequences in a ranking", body(completion('{"ranking": ["x\x1b[2J", "y"]}')), "an invented label"),
    server("moved to another host", moved("ADDRESS/v1/chat/completions"), "HTTP 307"),
    server("moved to a file", moved("file:///etc/passwd"), "HTTP 307"),
    server("the key repeated", echoed, "[key]"),
    server("not HTTP", lambda handler, place: handler.wfile.write(b"\0" * 9999), "without"),
    server("compressed a thousandfold", body(BOMB, headers={"Content-Encoding": "gzip"}), "a compressed reply"),
]


NOTHING_HEARD = "without: the server's answer is not a transcription"
EARS = [
    ear("an answer without end", endless, "more than 16 MiB"),
    ear("an answer that drips", dripping, "the server's answer does not end"),
    ear("brackets, 100,000 deep", body(DEEP), NOTHING_HEARD),
    ear("a list", body(b"[]"), NOTHING_HEARD),
    ear("a text of another type", body(b'{"text": {"text": 5}}'), NOTHING_HEARD),
    ear("a text without end", body(b'{"text": "%b"}' % (b"you " * 2**20)), "more than can be said"),
    ear("escape sequences in a text", body(b'{"text": "x\\u001b[2J"}'), "4 of 4 clips"),
    ear("moved to another host", moved("ADDRESS/v1/audio/transcriptions"), "HTTP 307"),
    ear("the key repeated", echoed, "[key]"),
    ear("compressed a thousandfold", body(BOMB, headers={"Content-Encoding": "gzip"}), "a compressed reply"),
]


def address(value: str) -> Input:
    """An address that would be kept with the settings."""

    def make(place: Place) -> list[str]:
        more = ["--config.ranking.annotator=openai", f"--config.ranking.openai.base_url={value}"]
        return ["annotate", *config(data_set(place), *more, modalities="text")]

    return Input("address", value, make, "ranking.openai.base_url: ")


ADDRESSES = [address(value) for value in ("http://me:s3cret@h/v1", "http://h/v1?key=s3cret", "file:///etc/passwd")]


def workdir(file: str, content: bytes, says: str, command: str = "predict") -> Input:
    """A file of a finished run, in another's place."""

    def make(place: Place) -> list[str]:
        run = place.folder / "run"
        shutil.copytree(place.run, run)
        (run / file).write_bytes(content)
        more = [f"--input={place.media}"] if command == "predict" else []
        return [command, *more, f"--workdir={run}"]

    return Input("workdir", f"{file}, {command}", make, says)


WORKDIRS = [
    workdir("config.json", b"[]", "config.json: not a JSON object"),
    workdir("config.json", DEEP, "config.json: cannot be read as JSON"),
    workdir("checkpoints/ensemble.json", b"[]", "checkpoints/ensemble.json is not as the run wrote it"),
    workdir("inventory.json", b"[]", "inventory.json"),
    workdir("metrics.json", b"[]", "metrics.json: not as the run wrote it: made again", "train"),
    workdir("dataset.json", b"[]", "dataset.json", "train"),
]
