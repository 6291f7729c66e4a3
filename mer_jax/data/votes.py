"""What others take clips for: a table of votes, of a vision-language model, another system or a person."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mer_jax.data.clip_files import key_of
from mer_jax.data.clips import Dataset, Problem
from mer_jax.data.labels import is_missing
from mer_jax.data.tables import named_rows, read_table
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.settings import setting

IGNORED, FILTER, VOTE = "none", "filter", "vote"
LABEL_COLUMNS = ("label", "discrete")  # the latter as in the predictions of this system and of the challenges
ROUNDING = 0.05  # by how much the sum of probabilities may be off


@dataclass(frozen=True)
class VoteSettings:
    """Votes from outside: `config.votes`. They must not come of the labels of the data set."""

    file: str = setting("")  # csv: name, and label (or discrete) or a column of probabilities per label; empty: none
    # What they do where pseudo-labels are chosen: nothing; "filter" drops candidates of which the networks say another
    # label; "vote" adds them to the networks' logits, by a weight that no label which a fold holds out has touched.
    pseudo_labels: str = setting(IGNORED, choices=(IGNORED, FILTER, VOTE))


@dataclass(frozen=True)
class Votes:
    """Of the clips of a data set, in its order."""

    probs: np.ndarray  # [N, C] float64, rows that sum to one; of zeros where a clip has no vote
    pseudo_labels: str = IGNORED  # see `VoteSettings`
    lacking: tuple[str, ...] = ()  # names in the table that the data set lacks
    problems: tuple[Problem, ...] = ()  # rows that were left out

    def lines(self) -> Iterator[str]:
        """What a user should know of them, before they are used."""
        yield f"votes for {int(self.probs.any(axis=1).sum()):,} of {len(self.probs):,} clips"
        if self.lacking:
            yield f"warning: {len(self.lacking):,} votes are of clips that the data set lacks ({self.lacking[0]!r} ...)"
        if self.problems:
            first = self.problems[0]
            yield f"warning: {len(self.problems):,} rows of votes are left out ({first.name!r}: {first.reason}; ...)"


def read_votes(settings: VoteSettings, dataset: Dataset) -> Votes | None:
    """The votes for the clips of a data set; None where none are asked for.

    A clip's name may carry its media file's suffix. An empty label, or a row without probabilities, is no vote.

    Raises:
        DataError: the table cannot be used as it is, or holds no vote for any clip of the data set.
    """
    if not settings.file:
        return None
    path, problems = Path(settings.file).expanduser(), list[Problem]()
    rows = read_table(path, ("name",), (*LABEL_COLUMNS, *dataset.labels))
    voted = vote_of_names(path, rows, dataset.labels, problems)
    numbers = {key_of(clip.name): number for number, clip in enumerate(dataset.clips)}
    probs = np.zeros((len(dataset.clips), len(dataset.labels)))
    lacking = [name for name in voted if key_of(name) not in numbers]
    for name in voted.keys() - set(lacking):
        probs[numbers[key_of(name)]] = voted[name]
    if not probs.any():
        why = f"the data set has no clip {lacking[0]!r}" if lacking else problems[0].reason if problems else "no row"
        raise DataError(f"{path}: no vote for any clip of {dataset.name} ({why}); names are those of its clips")
    return Votes(probs, settings.pseudo_labels, tuple(lacking), tuple(problems))


def vote_of_names(
    path: Path, rows: list[dict[str, str]], labels: Sequence[str], problems: list[Problem]
) -> dict[str, np.ndarray]:
    """Name -> probabilities [C], of the rows that vote; `problems` gets those that cannot be used.

    Raises:
        DataError: the columns are not those of votes, or no row can be used.
    """
    columns = rows[0] if rows else {}
    if set(labels) <= set(columns):
        return dict(probabilities(path, named_rows(path, rows, problems), labels, problems))
    column = next((name for name in LABEL_COLUMNS if name in columns), None)
    if column is None:
        has = ", ".join(columns) if rows else "no rows"
        lacking = ", ".join(label for label in labels if label not in columns)
        raise DataError(
            f"{path}: it has {has}; expected name, and label or a column of probabilities per label (no {lacking})"
        )
    empty = {row[column] for row in rows if row[column] not in labels and is_missing(row[column])}
    named = named_rows(path, rows, problems, column, (*labels, *empty))
    sure = dict(zip(labels, np.eye(len(labels)), strict=True))
    return {name: sure[row[column]] for name, (_, row) in named.items() if row[column] in sure}


def probabilities(
    path: Path, rows: Mapping[str, tuple[int, dict[str, str]]], labels: Sequence[str], problems: list[Problem]
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and probabilities [C], which sum to one, of the rows that hold such."""
    for name, (number, row) in rows.items():
        if all(is_missing(row[label]) for label in labels):
            continue
        try:
            probs = [float(row[label]) for label in labels]
        except ValueError:
            probs = [math.nan]
        if not (min(probs) >= 0 and abs(sum(probs) - 1) <= ROUNDING):  # which no NaN is
            cells = ", ".join(row[label] or "''" for label in labels)
            reason = f"no probabilities, which are 0 or more and sum to 1 ({path.name}, row {number}: {cells})"
            problems.append(Problem(name, "none", None, reason))
        else:
            yield name, np.array(probs) / sum(probs)


def check_votes(settings: VoteSettings, dataset: Dataset) -> None:
    """Raises DataError as `read_votes`."""
    read_votes(settings, dataset)
