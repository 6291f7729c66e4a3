"""Ranking and transcript -> text."""

from hypothesis import given
from hypothesis import strategies as st

from mer_jax.text.lexicon import rank
from mer_jax.text.templates import TEMPLATES, join

LABELS = ("neutral", "angry", "happy", "sad", "worried", "surprise")


def test_join():
    assert join(["sad", "neutral"], "我走了。", "zh-1") == "情绪从最可能到最不可能：难过、中性。文本：我走了。"
    assert join(["sad", "bored"], "bye", "en-1") == "Emotions from most to least likely: sad, bored. Text: bye"
    assert join(None, "bye", "en-1") == "bye"


@given(st.text(max_size=50), st.sampled_from(sorted(TEMPLATES)))
def test_transcripts_are_data(transcript, template):
    assert join(LABELS, transcript, template) == join(LABELS, "\0", template).replace("\0", transcript)


@given(st.lists(st.text(max_size=30), max_size=4))
def test_a_ranking_holds_every_label_once(transcripts):
    rankings = rank(transcripts, LABELS)
    assert len(rankings) == len(transcripts)
    assert all(sorted(ranking) == sorted(LABELS) for ranking in rankings)


def test_words_decide():
    assert [ranking[0] for ranking in rank(["我好担心，怎么办？", "What a wonderful day", "今天星期三"], LABELS)] == [
        "worried",
        "happy",
        "neutral",
    ]
