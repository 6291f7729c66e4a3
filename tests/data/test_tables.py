"""Csv reading: encodings, and errors that name the file and the row."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_jax.data import tables
from mer_jax.data.tables import BLANK, LONGEST_NAME, named_rows, read_mapping, read_names, read_table
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import csv_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_encodings_and_line_ends_read_the_same(tmp_path, encoding, newline):
    path = tmp_path / "t.csv"
    path.write_bytes(newline.join(["name,chinese", "a,你好", "", 'b,"再见, 朋友"', ""]).encode(encoding))
    assert read_table(path, ("name",)) == [{"name": "a", "chinese": "你好"}, {"name": "b", "chinese": "再见, 朋友"}]


def test_short_rows_are_filled_with_empty_cells(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("name,text\na\n", "utf-8")
    assert read_table(path, ("name", "text")) == [{"name": "a", "text": ""}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,other\na,b\n", "no column 'discrete'"),
        ("", "no column 'name', 'discrete'"),
        ("name,discrete\nb,sad,\na,happy,too\n", "row of 'a' has 3 cells under 2 columns"),
        ("name,discrete,discrete\na,happy,sad\n", "'discrete' stands twice"),
        ("name,discrete\n,happy\n", "none of its 1 rows.*empty name.*row 2"),
        ("name,discrete\n../a,happy\n", "the name cannot be a file's.*row 2"),
        ("name,discrete\na,jolly\n", r"row 2: 'jolly'; expected one of happy, sad"),
        ('name,discrete\n"a,happy\n', "not a well-formed csv"),
    ],
)
def test_errors_name_file_and_place(tmp_path, content, message):
    path = tmp_path / "labels.csv"
    path.write_text(content, "utf-8")
    with pytest.raises(DataError, match=message) as error:
        read_mapping(path, "discrete", [], ("happy", "sad"))
    assert str(path) in str(error.value)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "none.csv", ("name",))
    (tmp_path / "b.csv").write_bytes(b"name\xff\xff\xff\x81")
    with pytest.raises(DataError, match=r"b\.csv: neither UTF-8 nor GB18030, BIG5, .*; save it as UTF-8"):
        read_table(tmp_path / "b.csv", ("name",))


def test_rows_that_cannot_be_used_are_noted_and_left_out(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("name,discrete\na,happy\na,sad\nb,jolly\n,sad\nc,sad\n", "utf-8")
    problems = []
    assert read_mapping(path, "discrete", problems, ("happy", "sad")) == {"a": "happy", "c": "sad"}
    assert [(problem.name, problem.reason) for problem in problems] == [
        ("a", "the name stands twice, the first row counts (labels.csv, row 3, with another discrete)"),
        ("b", "unknown discrete (labels.csv, row 4: 'jolly'; expected one of happy, sad)"),
        ("?", "empty name (labels.csv, row 5)"),
    ]


def test_a_row_with_a_nul_costs_itself(tmp_path):
    path, problems = tmp_path / "labels.csv", []
    path.write_bytes(b"name,label\na,ha\0ppy\nb,sad\n")
    assert read_mapping(path, "label", problems) == {"b": "sad"}
    assert [problem.reason for problem in problems] == [
        "a cell holds the byte 0, which no text does: the row is damaged (labels.csv, row 2)"
    ]


def test_names_that_stand_twice(tmp_path):
    path = tmp_path / "names.csv"
    path.write_text("name,chinese\na,hi\nb,x\na,hi\nb,y\n", "utf-8")
    doubled, plain = [], []
    assert read_mapping(path, "chinese", doubled) == {"a": "hi", "b": "x"}
    assert [problem.reason.partition(" (")[2] for problem in doubled] == [
        "names.csv, row 4, with the same chinese)",
        "names.csv, row 5, with another chinese)",
    ]
    assert read_names(path, plain) == ["a", "b"]
    assert [problem.reason.partition(" (")[2] for problem in plain] == ["names.csv, row 4)", "names.csv, row 5)"]


def test_rows_by_name_keep_their_numbers_and_cells(tmp_path):
    path = tmp_path / "clips.csv"
    path.write_text("name,label\n..,x\na,x\na,y\nb,\n", "utf-8")
    rows = named_rows(path, read_table(path, ("name",)), [])
    assert rows == {"a": (3, {"name": "a", "label": "x"}), "b": (5, {"name": "b", "label": ""})}


def test_names_must_be_names_of_files(tmp_path):
    path = tmp_path / "names.csv"
    longest = "名" * (LONGEST_NAME // 3)  # of 3 bytes each
    names = [".", "..", "a/b", "a\\b", "a\0b", longest + "名", longest, ".a", "a b"]
    path.write_text("name\n" + "\n".join(names), "utf-8")
    problems = []
    assert read_names(path, problems) == [longest, ".a", "a b"]
    assert len(problems) == 6


def test_text_of_any_encoding_is_stripped_but_not_changed(tmp_path):
    """A BOM belongs to the file and not to the first column; GB18030 is tried where it is not UTF-8."""
    path = tmp_path / "t.csv"
    for raw in (b"\xef\xbb\xbf name ,x\n a , \xe4\xbd\xa0\xe5\xa5\xbd \n", b"name,x\na,\xc4\xe3\xba\xc3\n"):
        path.write_bytes(raw)
        assert read_table(path, ("name", "x")) == [{"name": "a", "x": "你好"}]


def test_an_encoding_that_is_told_is_said(tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_bytes("name,x\na,une dépêche arrivée\n".encode("cp1252"))
    assert read_table(path, ("name",)) == [{"name": "a", "x": "une dépêche arrivée"}]
    assert capsys.readouterr().err == f"{path}: not UTF-8, read as cp1252\n"


@pytest.mark.parametrize(
    ("content", "columns", "row"),
    [
        ("name;label\na;x, y\n", ("name", "label"), {"name": "a", "label": "x, y"}),
        ("name\tlabel\na\tx\n", ("name", "label"), {"name": "a", "label": "x"}),
        ('"name";"la,bel"\na;x\n', ("name", "la,bel"), {"name": "a", "la,bel": "x"}),
        ("name;label;more,or\na;x;\n", ("name",), {"name": "a", "label": "x", "more,or": ""}),
        ("sep=;\r\nname;label\r\na;x\r\n", ("name",), {"name": "a", "label": "x"}),
        ("name\na;x\n", ("name",), {"name": "a;x"}),  # by the header, not by what stands below
        ("name,label\ra,x\r", ("name",), {"name": "a", "label": "x"}),
        ('name, label\na, "x, y"\n', ("name",), {"name": "a", "label": "x, y"}),
        ("\ufeff\ufeffname,\ufefflabel\na\u200b,\xa0x\n", ("name", "label"), {"name": "a", "label": "x"}),
        (",name,label,\n0,a,x,\n", ("name", "label"), {"": "", "name": "a", "label": "x"}),
        ("name,label\r\na,x\r\n\x1a", ("name", "label"), {"name": "a", "label": "x"}),  # DOS's end of a file
        ("name,label\na," + "x" * 200_000, ("name",), {"name": "a", "label": "x" * 200_000}),  # csvkit 812
        ('"name","label"\n"a","say \\"x\\", J\\, K"\n', ("name",), {"name": "a", "label": 'say "x", J, K'}),
        ('name,label\n"a","C:\\"\n', ("name",), {"name": "a", "label": "C:\\"}),  # doubled quotes go first
    ],
)
def test_separators_and_what_other_programs_leave(tmp_path, content, columns, row):
    path = tmp_path / "t.csv"
    path.write_bytes(content.encode())
    assert read_table(path, columns) == [row]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Name,Label\na,x\n", r"no column 'name', 'label'; it has Name, Label \(is it 'Name', 'Label'\?\)$"),
        ("# ours\nname,label\na,x\n", "no column 'name', 'label'; it has # ours$"),
        ("name;label\na;x;y\n", "3 cells under 2 columns; put text that holds semicolons"),
        ('name,label\na,"x" y\n', "not a well-formed csv .*line 2: ',' expected"),
        ('name,label\na,"say \\"x\\""\nC:\\b,y\n', "not a well-formed csv .*line 2"),
    ],
)
def test_tables_that_cannot_be_read_say_why(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_table(path, ("name", "label", "label"))


def test_a_column_that_may_be_read_stands_once(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("name,text,text,note,note\na,hi,,1,2\n")
    with pytest.raises(DataError, match="'text' stands twice"):
        read_table(path, ("name",), ("text",))
    assert read_table(path, ("name",))[0]["name"] == "a"


def test_one_name_written_in_two_ways_stands_twice(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("name\na\na.mp4\nS01.E02\nS01.E03\né\ne\u0301\n", "utf-8")
    problems = []
    assert read_names(path, problems) == ["a", "S01.E02", "S01.E03", "é"]
    assert [problem.reason for problem in problems] == [
        "the name stands twice, the first row counts (t.csv, row 3, as 'a')",
        r"the name stands twice, the first row counts (t.csv, row 7, as '\xe9')",
    ]


def test_a_label_in_another_spelling_is_called_so(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("name,discrete\na,happy\nb,Happy\n")
    problems = []
    assert read_mapping(path, "discrete", problems, ("happy", "sad")) == {"a": "happy"}
    assert "'Happy' is another spelling of 'happy'; expected one of happy, sad" in problems[0].reason


CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\x0e\x0f\x1a\x1b"), min_size=1)
ODD_CELLS = st.builds("{}{}".format, st.sampled_from(["=", "+", "-", "@", "'", "'=", '"', ",", ";", "\n", ""]), CELLS)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(ODD_CELLS, CELLS), min_size=1, max_size=5))
def test_what_is_written_is_read_back(tmp_path_factory, rows):
    """But for what tells other encodings (shifts, and a few odd characters alone: the first row says UTF-8)."""
    path, rows = tmp_path_factory.mktemp("t") / "t.csv", [("utf-8", "déjà, привет, 世界"), *rows]
    stripped = [tuple(cell.strip(BLANK) or "a" for cell in row) for row in rows]
    path.write_text(csv_text(("name", "label"), stripped), "utf-8", newline="")
    assert [tuple(row.values()) for row in read_table(path, ("name", "label"))] == stripped


def test_a_table_of_absurd_size_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("name\na\n")
    os.truncate(path, 240 * 2**30)
    with pytest.raises(DataError, match=r"t\.csv: cannot be read: 245,760 MiB, where 128 are the most$"):
        read_table(path, ("name",))


def test_tables_of_absurdly_many_rows_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_text("name\na\nb\n")
    monkeypatch.setattr(tables, "MOST_ROWS", 3)
    assert len(read_table(path, ("name",))) == 2
    monkeypatch.setattr(tables, "MOST_ROWS", 2)
    with pytest.raises(DataError, match=r"t\.csv: more than 2 rows"):
        read_table(path, ("name",))


def test_of_many_columns_some_are_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(",".join(f"c{i}" for i in range(10_000)))
    with pytest.raises(DataError, match=r"no column 'name'; it has c0, .*, c19, \.\.\.$"):
        read_table(path, ("name",))
