"""Lines as text, and how many of them tell of an error."""

import csv
import json

from mer_jax.recognition.lines import errors_in, text_of

LABELS = ("a", "b")
GOOD = {
    "file": "x, y.mp4",
    "start": 1.5,
    "end": None,
    "label": "b",
    "probabilities": {"a": 0.25, "b": 0.75},
    "attention": {"speech": 1.0},
    "used": ["speech"],
    "absent": {"text": "no transcript"},
}
BAD = {"file": "z.mp4", "error": "cannot decode: no media"}


def test_rows_hold_what_lines_say(tmp_path):
    path = tmp_path / "lines.csv"
    path.write_text(text_of([GOOD], "csv", LABELS, True) + text_of([BAD, GOOD], "csv", LABELS, False), "utf-8")
    with open(path, encoding="utf-8") as file:
        first, second, third = csv.DictReader(file)
    assert first == third and first["file"] == "x, y.mp4" and (first["start"], first["end"]) == ("1.5", "")
    assert (first["label"], first["confidence"], first["a"], first["b"]) == ("b", "0.75", "0.25", "0.75")
    assert first["used"] == "speech" and first["absent"] == "text: no transcript" and first["error"] == ""
    assert second["error"] == "cannot decode: no media" and second["confidence"] == second["a"] == ""
    assert [errors_in(path, "csv", count) for count in (0, 1, 2, 3)] == [0, 0, 1, 1]


def test_json_lines_are_the_lines(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text(text_of([BAD, GOOD], "json", LABELS, False), "utf-8")
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == [BAD, GOOD]
    assert [errors_in(path, "json", count) for count in (1, 2)] == [1, 1]
