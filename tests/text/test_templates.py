"""Ranking and transcript -> text."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mer_jax.text.templates import TEMPLATES, join

LABELS = ("neutral", "angry", "happy", "sad", "worried", "surprise")


def test_join():
    assert join(["sad", "neutral"], "我走了。", "zh-1") == "情绪从最可能到最不可能：难过、中性。文本：我走了。"
    assert join(["sad", "bored"], "bye", "en-1") == "Emotions from most to least likely: sad, bored. Text: bye"
    assert join(None, "bye", "en-1") == "bye"


def test_templates_that_ask_for_the_label_end_with_the_first_one_alone():
    assert join(["sad", "neutral"], "我走了。", "zh-ask-1") == "文本：我走了。\n说话人的情绪是：难过"
    assert join(["sad", "neutral"], "bye", "en-ask-1") == "Text: bye\nThe speaker's emotion: sad"


def test_every_label_has_a_chinese_name_of_its_own():
    expected = "情绪从最可能到最不可能：中性、生气、开心、难过、担心、惊讶。文本："
    assert join(LABELS, "", "zh-1") == expected


@settings(deadline=None)
@given(st.text(max_size=50), st.sampled_from(sorted(TEMPLATES)))
def test_transcripts_are_data(transcript, template):
    before, _, after = join(LABELS, "transcript's place", template).partition("transcript's place")
    assert join(LABELS, transcript, template) == before + transcript + after
