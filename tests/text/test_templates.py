"""Ranking and transcript -> text."""

from hypothesis import given
from hypothesis import strategies as st

from mer_jax.text.templates import TEMPLATES, join

LABELS = ("neutral", "angry", "happy", "sad", "worried", "surprise")


def test_join():
    assert join(["sad", "neutral"], "我走了。", "zh-1") == "情绪从最可能到最不可能：难过、中性。文本：我走了。"
    assert join(["sad", "bored"], "bye", "en-1") == "Emotions from most to least likely: sad, bored. Text: bye"
    assert join(None, "bye", "en-1") == "bye"


@given(st.text(max_size=50), st.sampled_from(sorted(TEMPLATES)))
def test_transcripts_are_data(transcript, template):
    before, _, after = join(LABELS, "transcript's place", template).partition("transcript's place")
    assert join(LABELS, transcript, template) == before + transcript + after
