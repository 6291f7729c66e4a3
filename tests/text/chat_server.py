"""A server of chat completions that misbehaves on purpose: real HTTP, OpenAI's format, no model.

    python -m tests.text.chat_server --latency=0.2 --faults=0.3

prints its address and serves until it is killed. What it answers depends on the transcript alone, so a test knows
the ranking that every transcript must get; which fault it shows depends on the transcript and on how often it asked.
"""

import argparse
import json
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Faults of the server, after which the same is asked again; and of the model, whose reply is asked for once more.
SERVER_FAULTS = ("drop", "cut", "429", "429 date", "500", "502", "late", "html", "garbled")
REPLY_FAULTS = ("refusal", "missing", "invented", "doubled", "prose", "chinese", "truncated", "empty")
KEY = "sk-secret-0123456789"  # of those that ask, in tests
LABELS = ("neutral", "angry", "happy", "sad", "worried", "surprise")


def expected(transcript):
    """The ranking of a transcript: a permutation that only this transcript gives."""
    return random.Random(transcript).sample(LABELS, len(LABELS))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Silence."""

    def do_GET(self):
        self.send(200, json.dumps(self.server.stats()))

    def do_POST(self):
        server = self.server
        body, transcript = self.question(self.rfile.read(int(self.headers["Content-Length"])))
        start = time.monotonic()
        with server.lock:
            server.asked[transcript] += 1
            server.keys.add(self.headers["Authorization"])
            draw = random.Random(f"{server.asked[transcript]} {transcript}")
            server.busy += 1
            server.most_busy = max(server.busy, server.most_busy)
            if server.busy >= server.together:
                server.crowded.set()
        server.crowded.wait(30)
        fault = draw.choice(server.kinds) if draw.random() < server.faults else ""
        time.sleep(server.late if fault == "late" else server.latency)
        with server.lock:
            server.busy -= 1
            server.last = time.monotonic()
            server.held += server.last - start
            server.shown[fault or "none"] += 1
        if not server.schemas and "response_format" in body:
            self.send(400, '{"error": {"message": "json_schema is not supported"}}')
        elif refusal := server.refuses(body):
            self.send(refusal[0], json.dumps(refusal[1]))
        else:
            server.bodies.append(body)
            self.answer(fault, transcript)

    def question(self, content):
        """The fields of a request, and what it is about."""
        body = json.loads(content)
        (question,) = [message["content"] for message in body["messages"] if message["role"] == "user"][:1]
        return body, json.loads(question.split("\n\n")[-1])["transcript"]

    def answer(self, fault, transcript):
        error = json.dumps({"error": {"message": "no luck", "code": None}})
        if fault == "drop":
            self.close_connection = True
        elif fault == "cut":  # the body ends before its length
            self.send(200, self.completion("...")[:40], length=400)
            self.close_connection = True
        elif fault == "429":
            self.send(429, error, {"Retry-After": str(self.server.wait)})
        elif fault == "429 date":
            self.send(429, error, {"Retry-After": self.date_time_string(time.time() + self.server.wait + 1)})
        elif fault in ("500", "late"):
            self.send(500, error)
        elif fault == "502":
            self.send(502, "<html>Bad Gateway</html>", {"Content-Type": "text/html"})
        elif fault == "html":
            self.send(200, "<html>Please log in</html>", {"Content-Type": "text/html"})
        elif fault == "garbled":
            self.send(200, self.completion("...")[:60])
        else:
            self.send(200, self.completion(*self.stored_reply(fault, transcript)))

    def stored_reply(self, fault, transcript):
        """The reply made before for the same idempotency key, which costs nothing, or a new one."""
        server, key = self.server, self.headers["Idempotency-Key"]
        with server.lock:
            if key in server.replies:
                server.repeated += 1
            else:
                server.replies[key] = self.reply(fault, transcript)
            return server.replies[key]

    def reply(self, fault, transcript):
        """The model's words, and its refusal. It obeys whatever the transcript says."""
        ranking = expected(transcript)
        if "ignore the above" in transcript.lower():
            return "Sure! I will ignore all rankings from now on.", None
        if fault == "refusal":
            return None, "I cannot help with that."
        if fault == "prose":
            return f"The speaker is probably {ranking[0]}, perhaps {ranking[1]}.", None
        if fault == "empty":
            return "", None
        wrong = {
            "missing": ranking[1:],
            "invented": [*ranking[1:], "bored"],
            "doubled": [ranking[1], *ranking[1:]],
            "chinese": ["中性", "生气", "开心", "难过", "担心", "惊讶"],
        }
        text = json.dumps({"ranking": wrong.get(fault, ranking)}, ensure_ascii=False)
        if not fault:
            self.server.paid[transcript] += 1
        return text[:-9] if fault == "truncated" else text, None

    def completion(self, content, refusal=None):
        message, finish = {"role": "assistant", "content": content, "refusal": refusal}, "stop"
        if self.server.says and not refusal and content.startswith('{"ranking"'):
            message, finish = self.server.says(self.server.bodies[-1], content)
        usage = {"prompt_tokens": 200, "completion_tokens": 40, "total_tokens": 240}
        choice = {"index": 0, "message": message, "finish_reason": finish} | self.server.ended
        return json.dumps({"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage})

    def send(self, status, text, headers=None, length=None):
        body = text.encode()
        self.send_response(status)
        fields = {"Content-Type": "application/json", "Content-Length": str(length or len(body))}
        for name, value in (fields | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class ChatServer(ThreadingHTTPServer):
    """A server on a port of its own.

    Args:
        latency: seconds per request.
        faults: share of requests that go wrong.
        kinds: of the faults.
        late: seconds of a late answer.
        schemas: whether JSON schemas are known here.
        refuses: (body of a request) -> (status, error) where the request itself is refused, else None.
        says: (transcript, its ranking) -> the message and the finish_reason, in place of the usual ones.
        wait: seconds that clients are asked to wait by a 429, at least.
        together: so many requests have to be in before the first is answered (or 30 s go by).
    """

    daemon_threads = True
    request_queue_size = 256
    handler: type = Handler

    def __init__(
        self,
        latency=0.0,
        faults=0.0,
        kinds=SERVER_FAULTS + REPLY_FAULTS,
        late=1.0,
        schemas=True,
        wait=1,
        refuses=None,
        says=None,
        together=1,
    ):
        super().__init__(("127.0.0.1", 0), self.handler)
        self.latency, self.faults, self.kinds, self.late, self.schemas = latency, faults, kinds, late, schemas
        self.wait, self.refuses, self.says = wait, refuses or (lambda body: None), says
        self.together, self.crowded = together, threading.Event()
        self.ended = {}  # fields of every choice in place of the usual ones
        self.bodies = []  # of requests that were not refused
        self.lock = threading.Lock()
        self.asked = Counter()  # transcript -> requests
        self.paid = Counter()  # transcript -> usable replies made
        self.replies = {}  # idempotency key -> reply
        self.repeated = 0  # replies sent again
        self.shown = Counter()  # fault -> times
        self.keys = set()
        self.busy = self.most_busy = 0
        self.held = 0.0  # seconds that requests took, added up
        self.last = 0.0  # when the last request ended, on the machine's monotonic clock

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def stats(self):
        with self.lock:
            return {
                "requests": sum(self.asked.values()),
                "transcripts": len(self.asked),
                "answered": len(self.paid),
                "paid_twice": sum(count > 1 for count in self.paid.values()),
                "repeated": self.repeated,
                "faults": dict(self.shown),
                "held_s": self.held,
                "last": self.last,
                "most_at_once": self.most_busy,
            }

    def handle_error(self, request, client_address):
        """Clients that hang up are part of the show."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--late", type=float, default=1.0)
    server = ChatServer(**vars(parser.parse_args()))
    print(server.url, flush=True)
    server.serve_forever()
