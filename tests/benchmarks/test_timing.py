"""The columns and the table that the benchmarks print."""

import json

from benchmarks.timing import alternate, ratio, show


def test_ratio_is_of_rounds_not_of_medians():
    assert ratio([1.0, 2.0, 4.0], [3.0, 2.0, 6.0]) == {"ratio": 1.5, "lowest": 1.0, "highest": 3.0}


def test_rivals_take_turns_and_the_first_round_is_not_counted():
    calls = []
    seconds = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_table_and_json_hold_the_same(capsys):
    show([{"clips": 5, "s": 0.25}, {"clips": 10, "note": "late"}], benchmark="x")
    *table, line = capsys.readouterr().out.splitlines()
    assert table == ["clips  s     note", "5      0.25", "10           late"]
    assert json.loads(line) == {"benchmark": "x", "rows": [{"clips": 5, "s": 0.25}, {"clips": 10, "note": "late"}]}
