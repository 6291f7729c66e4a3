"""Findings: what checks say, and the page that they make."""

import pytest

from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.findings import Finding, findings_of, tell


def refusal(error):
    yield "a note"
    raise error


def test_a_check_gives_notes_and_its_error_stops():
    assert list(findings_of(lambda: ["a", "b"])) == [Finding("a", False), Finding("b", False)]
    assert list(findings_of(lambda: None)) == []
    for error in (DataError("x:\n  y"), UsageError("x: y")):
        assert list(findings_of(lambda error=error: refusal(error))) == [
            Finding("a note", False),
            Finding("x: y", True),
        ]
    with pytest.raises(ValueError):
        list(findings_of(lambda: refusal(ValueError("a slip of ours"))))


def test_notes_alone_stop_nothing(capsys):
    tell([Finding("one\x1b[2J", False), Finding("two", False)])
    assert capsys.readouterr().err == "  note: one\\u001b[2J\n  note: two\n"
    tell([])
    assert capsys.readouterr().err == ""


def test_one_error_is_one_line(capsys):
    with pytest.raises(DataError, match=r"^what is wrong$"):
        tell([Finding("what is wrong", True)])
    assert capsys.readouterr().err == ""


def test_several_errors_are_one_page_notes_last(capsys):
    with pytest.raises(DataError, match="2 errors, listed above: nothing is begun"):
        tell([Finding("a", True), Finding("b", False), Finding("c", True)])
    assert capsys.readouterr().err == "  error: a\n  error: c\n  note: b\n"
