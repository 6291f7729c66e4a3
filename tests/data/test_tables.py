"""Csv reading: encodings, and errors that name the file and the row."""

import pytest

from mer_jax.data.tables import read_mapping, read_table
from mer_jax.runtime.errors import DataError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_encodings_and_line_ends_read_the_same(tmp_path, encoding, newline):
    path = tmp_path / "t.csv"
    path.write_bytes(newline.join(["name,chinese", "a,你好", "", 'b,"再见, 朋友"', ""]).encode(encoding))
    assert read_table(path, ("name",)) == [
        {"name": "a", "chinese": "你好"},
        {"name": "b", "chinese": "再见, 朋友"},
    ]


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
        read_mapping(path, "name", "discrete", [], ("happy", "sad"))
    assert str(path) in str(error.value)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "none.csv", ("name",))
    (tmp_path / "b.csv").write_bytes(b"name\xff\xff\xff\x81")
    with pytest.raises(DataError, match="neither UTF-8 nor GB18030"):
        read_table(tmp_path / "b.csv", ("name",))


def test_rows_that_cannot_be_used_are_noted_and_left_out(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("name,discrete\na,happy\na,sad\nb,jolly\n,sad\nc,sad\n", "utf-8")
    problems = []
    assert read_mapping(path, "name", "discrete", problems, ("happy", "sad")) == {"a": "happy", "c": "sad"}
    assert [(problem.name, problem.reason) for problem in problems] == [
        ("a", "the name stands twice, the first row counts (labels.csv, row 3, with another discrete)"),
        ("b", "unknown discrete (labels.csv, row 4: 'jolly'; expected one of happy, sad)"),
        ("?", "empty name (labels.csv, row 5)"),
    ]
