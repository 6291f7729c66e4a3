"""Csv reading: encodings, and errors that name the file and the row."""

import pytest

from mer_jax.data.tables import read_mapping, read_table
from mer_jax.errors import DataError


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
        ("name,discrete\na,happy\na,sad\n", r"row 3: 'a' stands twice"),
        ("name,discrete\n,happy\n", "row 2: empty 'name'"),
        ("name,discrete\na,jolly\n", r"row 2: unknown discrete 'jolly'; expected one of happy, sad"),
        ('name,discrete\n"a,happy\n', "not a well-formed csv"),
    ],
)
def test_errors_name_file_and_place(tmp_path, content, message):
    path = tmp_path / "labels.csv"
    path.write_text(content, "utf-8")
    with pytest.raises(DataError, match=message) as error:
        read_mapping(path, "name", "discrete", ("happy", "sad"))
    assert str(path) in str(error.value)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "none.csv", ("name",))
    (tmp_path / "b.csv").write_bytes(b"name\xff\xff\xff\x81")
    with pytest.raises(DataError, match="neither UTF-8 nor GB18030"):
        read_table(tmp_path / "b.csv", ("name",))
