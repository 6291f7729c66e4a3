"""Requests to a server of this process: answers, refusals, limits, and what is left of them."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("starlette", reason="serving is an extra: pip install -r tests/requirements.txt")

from tests.serving.clips import sound
from tests.serving.tiny_service import served, tiny_recognizer

FORM = "multipart/form-data; boundary=b"


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory):
    return tiny_recognizer(tmp_path_factory.mktemp("ensemble"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@pytest.fixture
def held(recognizer, monkeypatch):
    """An event until which the device is busy."""
    event, lines = threading.Event(), recognizer.lines

    def late(*arguments, **more):
        event.wait(30)
        return lines(*arguments, **more)

    monkeypatch.setattr(recognizer, "lines", late)
    yield event
    event.set()


def eventually(true):
    for _ in range(600):
        if true():
            return True
        time.sleep(0.05)
    return False


def test_a_clip_gets_the_line_of_predict_under_its_own_name(recognizer, folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "a.wav"
    path.write_bytes(sound())
    with served(recognizer, folder) as (client, _):
        form = client.post(
            "/predict", files={"clip": ("../../etc/a.wav", sound())}, data={"text": "hello", "group": "g"}
        )
        body = client.post(
            "/predict",
            params={"text": "hello", "name": "a.wav"},
            content=sound(),
            headers={"content-type": "audio/wav"},
        )
        assert form.status_code == body.status_code == 200
        assert form.json() == body.json() == recognizer(path, "hello") | {"file": "a.wav"}
        assert form.headers["x-content-type-options"] == "nosniff"


def test_a_bad_clip_costs_itself_alone(recognizer, folder):
    clips = [sound(1 + i / 4) if i % 3 else b"no media at all" for i in range(12)]
    with served(recognizer, folder, queue=12) as (client, service):
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda clip: client.post("/predict", files={"c": ("a", clip)}), clips))
        assert [answer.status_code for answer in answers] == [422 if i % 3 == 0 else 200 for i in range(12)]
        assert answers[0].json() == {"file": "a", "error": "cannot decode: Invalid data found when processing input"}
        text = client.get("/metrics").text
        assert 'mer_requests_total{path="/predict",status="422"} 4.0' in text and "mer_queue_length 0.0" in text
        assert service.metrics.registry.get_sample_value("mer_batch_clips_sum") == 12


def test_where_a_batch_fails_each_clip_is_tried_alone(recognizer, folder, monkeypatch, capsys):
    lines = recognizer.lines

    def fails(files, contents, **more):
        if any(file.text == "bad" for file in files):
            raise RuntimeError("out of memory")
        return lines(files, contents, **more)

    monkeypatch.setattr(recognizer, "lines", fails)
    with served(recognizer, folder, wait_ms=500) as (client, _), ThreadPoolExecutor(3) as pool:
        texts = ["good", "bad", "good"]
        posts = [pool.submit(client.post, "/predict", files={"c": sound()}, data={"text": text}) for text in texts]
        assert [post.result().status_code for post in posts] == [200, 500, 200]
    assert "RuntimeError: out of memory" in capsys.readouterr().err


@pytest.mark.parametrize(
    "status, said, request_",
    [
        (415, "text/plain: send the clip as", {"content": b"x", "headers": {"content-type": "text/plain"}}),
        (415, "no content type", {"content": b"x"}),
        (413, "larger than 1 MiB", {"files": {"c": bytes(2**20)}}),
        (413, "larger than 1 MiB", {"content": iter([bytes(2**19)] * 3), "headers": {"content-type": "video/mp4"}}),
        (413, "a field of the form is larger", {"files": {"c": b"x"}, "data": {"text": "x" * 70_000}}),
        (400, "no clip came along", {"content": b"", "headers": {"content-type": "video/mp4"}}),
        (
            400,
            "no file in the form",
            {"content": b'--b\r\ncontent-disposition: form-data; name="text"\r\n\r\nx\r\n--b--'},
        ),
        (400, "breaks off", {"content": b'--b\r\ncontent-disposition: form-data; name="c"; filename="a"\r\n\r\nx'}),
        (400, "cannot be read", {"content": b"no form"}),
        (400, "more than one file", {"files": [("a", b"x"), ("b", b"y")]}),
        (400, "no UTF-8", {"files": {"c": b"x"}, "data": {"text": b"\xff"}}),
        (422, "61 s long, where 60 s are the most", {"files": {"c": sound(61, 0.1)}}),
    ],
)
def test_refusals_are_sentences(recognizer, folder, status, said, request_):
    if "files" not in request_ and said.split()[0] in ("no", "breaks", "cannot") and status == 400:
        request_ = {"headers": {"content-type": FORM}} | request_
    with served(recognizer, folder) as (client, _):
        answer = client.post("/predict", **request_)
        assert answer.status_code == status and said in answer.json()["error"]


def test_a_full_queue_says_when_to_come_again_and_a_late_answer_is_none(recognizer, folder, held):
    with served(recognizer, folder, queue=1, timeout=3) as (client, service), ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/predict", files={"c": sound()})
        assert eventually(lambda: service.clips == 1)
        second = client.post("/predict", files={"c": sound()})
        assert (second.status_code, second.headers["retry-after"]) == (429, "1")
        assert first.result().status_code == 504 and "no answer within 3 s" in first.result().json()["error"]
        held.set()
        assert client.post("/predict", files={"c": sound()}).status_code == 200


def test_an_upload_that_does_not_come_is_not_waited_for(recognizer, folder):
    with served(recognizer, folder, timeout=0.5) as (client, _):
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\nContent-Length: 99\r\n\r\nabc"
        with socket.create_connection((client.base_url.host, client.base_url.port)) as raw:
            raw.sendall(head)
            assert raw.recv(99).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_goes_away_frees_its_place(recognizer, folder, held):
    with served(recognizer, folder) as (client, service):
        body = sound()
        head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        for part in (body, body[:99]):
            with socket.create_connection((client.base_url.host, client.base_url.port)) as raw:
                raw.sendall(head.encode() + part)
                assert eventually(lambda: service.clips == 1)
            assert eventually(lambda: service.clips == 0) and not [*folder.iterdir()]
        held.set()
        assert client.post("/predict", files={"c": sound()}).status_code == 200
        value = service.metrics.registry.get_sample_value
        assert value("mer_requests_total", {"path": "/predict", "status": "499"}) == 2


def test_a_timeline_comes_window_by_window(recognizer, folder):
    with served(recognizer, folder) as (client, _):
        answer = client.post("/timeline?window=2&step=1", files={"clip": ("talk.wav", sound(6))}, data={"text": "hi"})
        first, *lines = map(json.loads, answer.text.splitlines())
        assert first == {"file": "talk.wav", "windows": 5} and [line["start"] for line in lines] == [0, 1, 2, 3, 4]
        assert all(line["file"] == "talk.wav" and line["used"] == ["speech", "text"] for line in lines)
        bad = client.post("/timeline", files={"clip": ("talk.wav", b"nothing")})
        assert bad.status_code == 422 and bad.json()["error"].startswith("talk.wav: cannot decode")
        assert "expected seconds" in client.post("/timeline?step=nan", files={"clip": sound()}).json()["error"]


def test_a_server_that_loads_or_stops_says_so(recognizer, folder, held):
    with served(recognizer, folder, ready=False) as (client, _):
        assert client.get("/health").json() == {"status": "loading", "run": "tiny"}
        answer = client.post("/predict", files={"c": sound()})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    with served(recognizer, folder) as (client, service), ThreadPoolExecutor(1) as pool:
        assert client.get("/health").json()["labels"] == ["calm", "glad", "sad"]
        begun = pool.submit(client.post, "/predict", files={"c": sound()})
        assert eventually(lambda: service.clips == 1)
        client.stop()
        assert eventually(lambda: service.stopping) and service.state == "stopping"
        held.set()
        assert begun.result().status_code == 200


def test_what_is_not_done_when_time_is_over_is_told_so(recognizer, folder, held):
    with served(recognizer, folder, grace=0.5) as (client, service), ThreadPoolExecutor(1) as pool:
        begun = pool.submit(client.post, "/predict", files={"c": sound()})
        assert eventually(lambda: service.clips == 1)
        client.stop()
        assert begun.result().status_code == 503


def test_strangers_groups_have_nothing_to_do_with_each_other(recognizer, folder, monkeypatch):
    groups, lines = [], recognizer.lines

    def noting(files, *arguments, **more):
        groups.extend(file.group for file in files)
        return lines(files, *arguments, **more)

    monkeypatch.setattr(recognizer, "lines", noting)
    with served(recognizer, folder, wait_ms=1000, batch_clips=2) as (client, _), ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: client.post("/predict", files={"c": sound()}, data={"group": "anna"}), range(2)))
    assert len(groups) == 2 and len({*groups}) == 2
