"""Votes from outside: every way to write them, and what is said of rows and tables that are none."""

import re

import numpy as np
import pytest

from mer_jax.data.clips import Clip, Dataset
from mer_jax.data.votes import Votes, VoteSettings, read_votes
from mer_jax.runtime.errors import DataError

CLIPS = (Clip("a", "train", label="sad"), Clip("b.mp4", "unlabeled"), Clip("c", "test"))
DATASET = Dataset("toy", ("happy", "sad"), CLIPS, {})


@pytest.fixture
def read(tmp_path):
    def votes(content) -> Votes:
        (tmp_path / "v.csv").write_text(content, "utf-8")
        return read_votes(VoteSettings(str(tmp_path / "v.csv"), "filter"), DATASET)

    return votes


def test_no_file_is_no_votes():
    assert read_votes(VoteSettings(), DATASET) is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("name,label\nc,happy\na.wav,sad\n", [[0, 1], [0, 0], [1, 0]]),
        ("name,discrete\nb,happy\na,\nc,NA\n", [[0, 0], [1, 0], [0, 0]]),  # as in predictions/test.csv
        ("name;sad;happy\na;0.25;0.75\nb;;\nc;1.02;0\n", [[0.75, 0.25], [0, 0], [0, 1]]),
    ],
)
def test_labels_or_probabilities_by_name(read, content, expected):
    votes = read(content)
    np.testing.assert_allclose(votes.probs, expected)
    assert votes.pseudo_labels == "filter" and not votes.problems and not votes.lacking
    assert list(votes.lines()) == [f"votes for {int(np.sum(expected))} of 3 clips"]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("name,label\na,sad\nb,Happy", r"unknown label \(v.csv, row 3: 'Happy' is another spelling of 'happy'"),
        ("name,label\na,sad\na.mp4,happy", r"stands twice, the first row counts \(v.csv, row 3, .* another label"),
        ("name,happy,sad\na,0,1\nb,0.5,0.4", r"no probabilities, .* \(v.csv, row 3: 0.5, 0.4\)"),
        ("name,happy,sad\na,0,1\nb,1.5,-0.5", "no probabilities, "),
        ("name,happy,sad\na,0,1\nb,nan,0.5", "no probabilities, "),
        ("name,happy,sad\na,0,1\nb,high,low", "no probabilities, "),
        ("name,happy,sad\na,0,1\nb,1,", r"no probabilities, .*: 1, ''\)"),
    ],
)
def test_rows_that_are_no_votes_are_listed_and_left_out(read, rows, reason):
    votes = read(rows)
    np.testing.assert_array_equal(votes.probs, [[0, 1], [0, 0], [0, 0]])
    (problem,) = votes.problems
    assert re.search(reason, problem.reason)
    assert f"warning: 1 rows of votes are left out ({problem.name!r}: " in "".join(votes.lines())


def test_votes_for_clips_that_the_data_set_lacks_are_counted(read):
    votes = read("name,label\nx,sad\na,sad\ny,happy\n")
    assert votes.lacking == ("x", "y")
    assert "warning: 2 votes are of clips that the data set lacks ('x' ...)" in list(votes.lines())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column 'name'"),
        ("name,label\n", "no rows; expected name, and label or a column of probabilities per label"),
        ("name,emotion\na,sad\n", r"it has name, emotion; expected name, and label or .* \(no happy, sad\)"),
        ("name,sad\na,1\n", r"\(no happy\)"),
        ("name,label\na,jolly\n", "none of its 1 rows can be used: unknown label"),
        ("name,label\nx,sad\n", "no vote for any clip of toy .the data set has no clip 'x'"),
        ("name,label\na,\n", "no vote for any clip of toy"),
        ("name,happy,sad\na,3,4\n", "no vote for any clip of toy .no probabilities"),
    ],
)
def test_tables_without_any_vote_are_refused_in_one_line(read, content, message):
    with pytest.raises(DataError, match=message) as error:
        read(content)
    assert "\n" not in str(error.value) and "v.csv" in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file; expected a csv"):
        read_votes(VoteSettings(str(tmp_path / "none.csv")), DATASET)
