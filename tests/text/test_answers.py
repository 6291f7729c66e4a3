"""From a model's reply to a ranking."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_jax.text.answers import Unusable, Usage, parse, schema

LABELS = ("happy", "sad", "angry")


@settings(deadline=None)
@given(st.permutations(LABELS))
def test_every_order_is_a_ranking(order):
    reply = json.dumps({"ranking": order})
    assert parse(reply, LABELS) == parse(f"```json\n{reply}\n```", LABELS) == tuple(order)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "not JSON"),
        ("I think happy, then sad.", "not JSON"),
        ('{"ranking": ["happy", "sad", "ang', "not JSON"),
        ('{"ranking": ["happy", "sad", "angry"]} or {"ranking": ["sad", "happy", "angry"]}', "several"),
        ('<think>{"ranking": ["happy", "sad", "angry"]}</think> I do not know.', "not JSON"),
        ('{"emotion": "happy"}', "no list"),
        ('{"ranking": "happy, sad, angry"}', "no list"),
        ('{"ranking": [["happy"], "sad", "angry"]}', "no list"),
        ('{"ranking": ["happy", "sad"]}', "lacks"),
        ('{"ranking": ["happy", "sad", "sad"]}', "twice"),
        ('{"ranking": ["happy", "sad", "angry", "bored"]}', "invented"),
        ('{"ranking": ["开心", "难过", "生气"]}', "invented"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_anything_else_is_not(reply, reason):
    with pytest.raises(Unusable, match=reason):
        parse(reply, LABELS)


@pytest.mark.parametrize(
    "reply",
    [
        'Sure: {"ranking": ["sad", "happy", "angry"]} Shall I go on?',
        'Here:\n```JSON\n{"ranking": ["sad", "happy", "angry"]}\n```\nAs [1] says.',
        '["sad", "happy", "angry"]',
        'Of ["happy", "sad", "angry"]: {"ranking": ["sad", "happy", "angry"]}',
        '{"ranking": ["label", "..."]}, so {"ranking": ["sad", "happy", "angry"]}',
        '{"answer": {"Ranking": ["sad", "happy", "angry"]}}',
        '{"ranking": [" Sad", "HAPPY.", "2. angry"]}',
        '{"ranking": ["s\\u0061d", "happy", "angry"], "why": "cut he',
        "{'ranking': ['sad', 'happy', 'angry',]}",
        "｛“ranking”：［“sad”，“happy”，“angry”］｝",
        '<think>{"ranking": ["happy", "sad", "angry"]} {no}</think>{"ranking": ["sad", "happy", "angry"]}',
        '<think>a<think>b</think>{"ranking": ["happy"]}</think>{"ranking": ["sad", "happy", "angry"]}',
        'thoughts without a beginning {</think>\n\n{"ranking": ["sad", "happy", "angry"]}',
        '<thinking>without an end, so {"ranking": ["sad", "happy", "angry"]}',
        '[THINK]{"ranking": []}[/THINK]{"ranking": ["sad", "happy", "angry"]}',
        '<|channel|>analysis<|message|>{}<|end|><|channel|>final<|message|>{"ranking": ["sad", "happy", "angry"]}',
        "['sad', 'happy', 'angry']",
        "{'why': 'a\\nb', 'ranking': ['sad', 'happy', 'angry']}",
        json.dumps(json.dumps({"ranking": ["sad", "happy", "angry"]}, indent=1)),
        '{\\"ranking\\": [\\"sad\\", \\"happy\\", \\"angry\\"]}',
        '<answer>{"ranking": ["sad", "happy", "angry"]}</answer> As [1] says.',
        '{"why": "<b>x</b>", "ranking": ["sad", "happy", "angry"], "more": "</i>"}',
        '{"ranking": ["sad\n", "happy\t", "angry"], "why": "a\nb"}',  # mem0 4420
        '{"ranking": ["sad", "happy", "angry",], "sure": true,}',  # lgtmaybe 104
        'analysisMaybe ["happy", "sad", "angry"]?assistantfinal{"ranking": ["sad", "happy", "angry"]}',
        '**Thinking:** {"ranking": ["happy", "sad", "angry"]}?\n\n**Answer:** {"ranking": ["sad", "happy", "angry"]}',
        '### Reasoning\n["happy", "sad", "angry"]\n\n### Final answer\n["sad", "happy", "angry"]\n### Analysis\nsad.',
        'Answer: ["sad", "happy", "angry"]\n\nReasoning: not ["happy", "sad", "angry"], since',
        '**Reasoning:** sad first, so {"ranking": ["sad", "happy", "angry"]}',
        'Thought: first ["happy", "sad", "angry"]\nFinal Answer: {"ranking": ["sad", "happy", "angry"]}',
        '```\nthe {speaker} sounds [sad]\n```\n```json\n{"ranking": ["sad", "happy", "angry"]}\n```',  # hindsight 2542
        '{"ranking": ["sad", "happy", "angry"], "scores": {"happy": 9, "sad": 7}}',  # llm-council 13
        '{"analysis": "It says assistant final.", "ranking": ["sad", "happy", "angry"]}',
    ],
)
def test_a_ranking_is_found_among_thoughts_and_prose(reply):
    assert parse(reply, LABELS) == ("sad", "happy", "angry")


MARKERS = [
    "<plan> </plan>",
    '<think type="x"> </think>',
    "<cot> </cot>",
    "<思考> </思考>",
    "[PLAN] [/PLAN]",
    "&lt;cot&gt; &lt;/cot&gt;",
]
TOKENS = ["<|begin_of_thought|> <|end_of_thought|>", "<｜begin▁of▁thinking｜> <｜end▁of▁thinking｜>", "<|x> <x|>"]


@pytest.mark.parametrize("markers", [*MARKERS, *TOKENS, "◁plan▷ ◁/plan▷", "<unused94> <unused95>"])
def test_a_draft_between_markers_of_any_kind_is_not_the_last_word(markers):
    draft, answer = '{"ranking": ["happy", "sad", "angry"]}', '{"ranking": ["sad", "happy", "angry"]}'
    start, end = re.split(" (?=[<[◁&])", markers)
    assert parse(f"{start}{draft}? no.{end}{answer}", LABELS) == ("sad", "happy", "angry")
    assert parse(f"{start}{draft}{end}<answer>{answer}</answer>", LABELS) == ("sad", "happy", "angry")
    with pytest.raises(Unusable, match="lacks"):
        parse(f'{start}{draft}{end}["sad"]', LABELS)
    with pytest.raises(Unusable, match="several"):
        parse(f"{start}no{end}{draft}{answer}", LABELS)
    with pytest.raises(Unusable, match="not JSON"):
        parse(f"{start}{draft}, but", LABELS, whole=False)


def test_labels_that_are_numbers_may_be_json_numbers():
    assert parse('{"ranking": [-1, 0.0, 1]}', ("1", "-1", "0")) == ("-1", "0", "1")
    assert parse("[0.5, 1]", ("1", "0.5")) == ("0.5", "1")
    with pytest.raises(Unusable, match="no list"):
        parse('{"ranking": [true, 2]}', ("1", "2"))


def test_a_draft_in_thoughts_that_were_cut_short_is_none():
    with pytest.raises(Unusable, match="not JSON"):
        parse('<think>first {"ranking": ["sad", "happy", "angry"]}, but', LABELS, whole=False)
    assert parse('{"ranking": ["sad", "happy", "angry"]}, beca', LABELS, whole=False)


@pytest.mark.parametrize("thoughts", ["**Thinking:** maybe", "### Analysis\n", "analysisPerhaps", "Thoughts: I see"])
def test_a_draft_under_a_heading_that_was_cut_short_is_none(thoughts):
    with pytest.raises(Unusable, match="not JSON"):
        parse(f'{thoughts} {{"ranking": ["sad", "happy", "angry"]}}, but', LABELS, whole=False)


def test_two_rankings_without_a_word_between_them_are_no_answer():
    with pytest.raises(Unusable, match="several"):
        parse('["sad", "happy", "angry"]\nWait, that is wrong:\n["happy", "sad", "angry"]', LABELS)


def test_labels_that_differ_in_case_alone_are_as_they_are_written():
    assert parse('["Sad", "sad"]', ("sad", "Sad")) == ("Sad", "sad")
    with pytest.raises(Unusable, match="invented"):
        parse('["SAD", "sad"]', ("sad", "Sad"))


def test_the_schema_asks_for_as_many_labels_as_there_are_and_no_others():
    ranking = {"type": "array", "items": {"type": "string", "enum": ["happy", "sad", "angry"]}}
    assert schema(LABELS) == {
        "type": "object",
        "properties": {"ranking": {**ranking, "minItems": 3, "maxItems": 3}},
        "required": ["ranking"],
        "additionalProperties": False,
    }


def test_what_was_spent_adds_up():
    usage = Usage(1, 10, 100)
    usage.add(Usage(2, 20, 200))
    assert usage == Usage(3, 30, 300)
