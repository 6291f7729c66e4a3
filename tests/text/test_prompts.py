"""What a chat model is told, to the letter: a changed wording needs a new name."""

import hashlib
import json

import pytest

from mer_jax.text.templates import PROMPTS, ask, repair

LABELS = ("sad", "happy", "neutral")


def test_a_question_names_the_labels_in_their_order_and_holds_the_transcript_as_data():
    system, user = ask("en-1", 'He said "no"', LABELS)
    assert system["role"] == "system" and user["role"] == "user"
    assert "from most to least likely: sad, happy, neutral. Answer" in system["content"]
    assert '{"ranking": ["label", …]}' in system["content"]
    assert user["content"] == '{"transcript": "He said \\"no\\""}'
    chinese, user = ask("zh-1", "我走了", LABELS)
    assert "排序：sad, happy, neutral。" in chinese["content"] and json.loads(user["content"]) == {
        "transcript": "我走了"
    }


def test_a_repair_shows_the_reply_cut_short_and_says_what_is_wrong_with_it():
    reply, wrong = repair("en-1", "x" * 2000, "reply lacks a label")
    assert reply == {"role": "assistant", "content": "x" * 1000}
    assert wrong["role"] == "user"
    assert (
        wrong["content"] == "The last answer cannot be used (reply lacks a label). Answer with the JSON object alone."
    )
    assert "（reply lacks a label）" in repair("zh-1", "", "reply lacks a label")[1]["content"]


@pytest.mark.parametrize(("name", "digest"), [("zh-1", "26e35a1c6dfd"), ("en-1", "2a423d4c11ee")])
def test_a_prompt_keeps_its_wording(name, digest):
    wording = PROMPTS[name].instruction + PROMPTS[name].repair
    assert hashlib.sha256(wording.encode()).hexdigest()[:12] == digest
