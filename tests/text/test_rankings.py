"""Ranking transcripts behind the cache: what is asked for, when it stops, and what is said of the rest."""

import signal

import numpy as np
import pytest

from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.settings import read_settings
from mer_jax.text.answers import Answer, Usage
from mer_jax.text.ranking_settings import ChatSettings
from mer_jax.text.rankings import added_tokens, rank_all

LABELS = ("happy", "sad")


class Fake:
    """Ranks in the order of the labels, in one request each; has nothing to say to "?", for now to "later"."""

    name, model, prompt, stopped = "fake", "m", "1", ""

    def __init__(self):
        self.asked, self.planned = [], []

    def plan(self, transcripts, labels, spent):
        self.planned.append((list(transcripts), spent.requests))
        return "to ask"

    def rank(self, transcripts, labels, spent):
        for transcript in transcripts:
            self.asked.append(transcript)
            ranking = None if transcript in ("?", "later") else tuple(labels)
            yield Answer(transcript, ranking, "" if ranking else "no idea", "", Usage(1), transcript != "later")


def test_only_what_the_cache_lacks_is_planned_and_asked(tmp_path):
    first, second = Fake(), Fake()
    rankings = rank_all(["b", "a", "", "?", "later", "a"], LABELS, first, tmp_path)
    assert first.asked == ["?", "a", "b", "later"] and first.planned == [(first.asked, 0)]
    assert rankings.annotator == "fake (m, prompt 1)"
    assert rankings.ranked == {"a": LABELS, "b": LABELS}
    assert rankings.failures == {"?": "no idea", "later": "no idea"}

    rank_all(["c", "b", "?", "later"], LABELS, second, tmp_path)
    assert second.asked == ["c", "later"] and second.planned == [(second.asked, 4)]


def test_a_dry_run_only_plans(tmp_path):
    annotator = Fake()
    rankings = rank_all(["a"], LABELS, annotator, tmp_path, dry_run=True)
    assert not annotator.asked and annotator.planned == [(["a"], 0)]
    assert rankings.failures == {"a": "not asked yet"}


@pytest.mark.usefixtures("usual_signals")
def test_a_stop_request_ends_it_after_the_answers_under_way(tmp_path):
    class Stopped(Fake):
        def rank(self, transcripts, labels, spent):
            for answer in super().rank(transcripts, labels, spent):
                if answer.transcript == "b":
                    signal.raise_signal(signal.SIGINT)
                yield answer

    annotator = Stopped()
    with pytest.raises(KeyboardInterrupt):
        rank_all(["a", "b", "c", "d"], LABELS, annotator, tmp_path)
    assert annotator.asked == ["a", "b"]
    again = Fake()
    assert len(rank_all(["a", "b", "c", "d"], LABELS, again, tmp_path).ranked) == 4
    assert again.asked == ["c", "d"]


def test_why_an_annotator_stopped_is_why_the_rest_has_no_ranking(tmp_path):
    class Poor(Fake):
        def rank(self, transcripts, labels, spent):
            yield next(super().rank(transcripts, labels, spent))
            self.stopped = "the budget is spent"

    rankings = rank_all(["a", "b", "c"], LABELS, Poor(), tmp_path)
    assert rankings.failures == dict.fromkeys("bc", "the budget is spent")


class Letters:
    """A tokenizer whose tokens are letters."""

    def encode(self, texts):
        return [list(text) for text in texts]


def test_added_tokens_by_hand():
    """ "Emotions from most to least likely: " has 36 letters, ". Text: " 8."""
    ranked = {"ab": ("sad",), "abcd": ("happy", "sad")}
    tokens = added_tokens(ranked, Letters(), "en-1")
    assert tokens == {"transcript": 3.0, "added": np.mean([36 + 3 + 8, 36 + 10 + 8]), "most": 54}
    assert added_tokens({}, Letters(), "en-1") == {"transcript": 0.0, "added": 0.0, "most": 0}


@pytest.mark.parametrize(
    "address", ["https://me:s3cret@host/v1", "https://host/v1?key=s3cret", "https://s3cret@host", "http://h#s3cret"]
)
def test_an_address_with_a_key_in_it_is_refused_and_not_shown(address):
    with pytest.raises(UsageError, match="base_url: holds a name, password or key") as error:
        read_settings(ChatSettings, {"base_url": address})
    assert "s3cret" not in str(error.value)
    assert read_settings(ChatSettings, {"base_url": "http://localhost:8000/v1"}).base_url


@pytest.mark.parametrize("address", ["file:///etc/passwd", "localhost:8000/v1", "ftp://host", "http://[::1"])
def test_only_an_address_of_the_web_is_one(address):
    with pytest.raises(UsageError, match=r"^base_url: ") as error:
        read_settings(ChatSettings, {"base_url": address})
    assert address not in str(error.value)
