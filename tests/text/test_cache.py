"""The cache of answers."""

import json
from dataclasses import dataclass

import pytest

from mer_jax.text.answers import Answer, Usage
from mer_jax.text.cache import AnswerCache
from mer_jax.text.lexicon import LexiconAnnotator

LABELS = ("happy", "sad")
HARD = 'quotes " and \\, {braces},\nnewlines\u2028\x00 and 表情😀 ' * 500


@pytest.fixture
def opened(tmp_path):
    return lambda labels=LABELS: AnswerCache(tmp_path, LexiconAnnotator(), labels)


def test_answers_outlive_the_process_and_are_told_apart_by_labels(opened):
    answers = [
        Answer(HARD, ("sad", "happy"), "", HARD, Usage(1, 10, 5)),
        Answer("b", None, "reply is not JSON", "half a pair: \ud83d", Usage(2, 20, 10)),
    ]
    with opened() as cache:
        for answer in answers:
            cache.append(answer)
    with opened() as cache:
        assert list(cache.answers) == [HARD, "b"]
        assert cache.answers[HARD].ranking == ("sad", "happy") and cache.answers["b"].reason == "reply is not JSON"
        assert cache.spent == Usage(3, 30, 15)
    with opened(("happy", "sad", "angry")) as cache:
        assert not cache.answers and cache.spent == Usage(3, 30, 15)
    lines = cache.path.read_bytes().splitlines()
    assert json.loads(lines[0])["reply"] == HARD and json.loads(lines[1])["reply"] == answers[1].reply


def test_killed_at_any_byte(opened):
    with opened() as cache:
        cache.append(Answer("first", ("sad", "happy")))
        cache.append(Answer("second", ("happy", "sad")))
    whole = cache.path.read_bytes()
    second = whole.index(b"\n") + 1
    for length in range(second, len(whole) - 1):
        cache.path.write_bytes(whole[:length])
        with opened() as torn:
            assert list(torn.answers) == ["first"]
            torn.append(Answer("third", None, "x"))
        with opened() as again:
            assert list(again.answers) == ["first", "third"]


def test_the_last_line_on_a_transcript_counts(opened):
    with opened() as cache:
        cache.append(Answer("a", None, "HTTP 500", final=False))
        cache.append(Answer("a", ("sad", "happy")))
    with opened() as cache:
        assert cache.answers["a"].final and cache.answers["a"].ranking


@dataclass
class Named:
    """As much of an annotator as names its answers."""

    name: str = "openai"
    model: str = "m"
    prompt: str = "1"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Named(model="small"), Named(model="large")),
        (Named(model="lab/model"), Named(model="lab_model")),  # which share a file
        (Named(prompt="zh-1"), Named(prompt="en-1")),
        (Named(name="openai"), Named(name="local")),
    ],
)
def test_annotators_models_and_prompts_have_answers_of_their_own(tmp_path, one, other):
    with AnswerCache(tmp_path, one, LABELS) as cache:
        cache.append(Answer("a", ("sad", "happy")))
    with AnswerCache(tmp_path, other, LABELS) as cache:
        assert not cache.answers
        cache.append(Answer("a", ("happy", "sad")))
    with AnswerCache(tmp_path, one, LABELS) as cache:
        assert cache.answers["a"].ranking == ("sad", "happy")


def test_a_line_that_was_not_written_so_is_asked_for_again(opened, capsys):
    with opened() as cache:
        for name in "abcd":
            cache.append(Answer(name, ("sad", "happy")))
    lines = cache.path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'["sad", "happy"]', b'["happy", "sad"]')
    nonsense = json.loads(lines[2]) | {"ranking": ["nonsense"]}
    del nonsense["_kept"]
    lines[2] = json.dumps(nonsense).encode() + b"\n"
    earlier = json.loads(lines[3])
    del earlier["_kept"]
    lines[3] = json.dumps(earlier).encode() + b"\n"
    cache.path.write_bytes(b"".join(lines))
    with opened() as cache:
        assert list(cache.answers) == ["a", "d"]
    assert "2 lines cannot be read: asked again" in capsys.readouterr().err
