"""What stands beside the crops that a run has cut out of a clip (mer_jax/data/crops.py).

Nothing here imports JAX: crops are read in worker processes, too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mer_jax.runtime.errors import DataError
from mer_jax.runtime.kept import Damaged, file_digests, read_kept

COUNTS, FAILURE = "frames.json", "failure.json"  # what `Cut` says, or why a clip could not be searched


class Cut(NamedTuple):
    """What a clip's crops are, and of what. Earlier versions kept less."""

    with_face: int  # frames
    without: int
    of: str  # identity of the media file
    face_stride: int | None  # None: all frames were searched for all faces, which is right under any
    size: int | None  # bytes of the crops' file
    digest: str | None  # of it

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "Cut":
        """Raises KeyError or TypeError for what `as_json` does not give."""
        counts = (saved["with"] + 0, saved["without"] + 0)
        (digest,) = saved.get("crops", [None])
        return cls(*counts, saved.get("of", ""), saved.get("face_stride"), saved.get("bytes"), digest)

    def as_json(self) -> dict[str, Any]:
        return {
            **{"with": self.with_face, "without": self.without, "of": self.of, "face_stride": self.face_stride},
            **{"bytes": self.size, "crops": [self.digest]},
        }


def about(path: Path) -> Cut:
    """What is kept of the crops in a file. Raises Damaged."""
    return read_kept(path.with_name(COUNTS), earlier=True, parse=Cut.from_json)


def check_crops(path: Path) -> None:
    """Compares crops with what they were when they were written: whenever they are read, and not at every start.

    Raises:
        Damaged: they differ.
        DataError: the system does not give them.
    """
    try:
        if (digest := about(path).digest) is not None and file_digests([path]) != [digest]:
            raise Damaged(f"{path}: not as it was written")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; once that is mended, start the same command again") from error
