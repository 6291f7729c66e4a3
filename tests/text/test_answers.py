"""From a model's reply to a ranking."""

import json

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
        ('Sure: {"ranking": ["happy", "sad", "angry"]}', "not JSON"),
        ('{"ranking": ["happy", "sad", "ang', "not JSON"),
        ('["happy", "sad", "angry"]', "no list"),
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
