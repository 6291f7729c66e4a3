"""The feature store: safetensors shards, written whole or not at all, memory-mapped on reading.

A store is one folder per encoder and preprocessing (their fingerprint is in the folder's name). Within it a row
is found by its clip's key, so a clip whose file changed is computed again and nothing else is. A shard that is damaged,
or another store's, is named, and its clips are computed again. Hosts that share the folder number their shards apart,
and none removes another's.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import jax
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from mer_jax.features.embeddings import Features, Rows
from mer_jax.runtime.files import open_regular, write_whole
from mer_jax.runtime.kept import KEPT, Damaged, blake2b, check, digest_of, make_again, mark


@dataclass(frozen=True)
class Row:
    """One clip's entry: its embedding [...] float32, or why the modality is absent from the clip."""

    key: str
    embedding: np.ndarray | None
    reason: str | None = None


def owner_of(path: Path) -> int:
    """The host that may remove a shard: the one that wrote it or, where there are fewer hosts by now, the first."""
    host = path.name.partition("-")[0]
    return int(host) if host.isdecimal() and int(host) < jax.process_count() else 0


class FeatureStore:
    """Appends shards of rows to a folder and finds rows by key."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.shards: list[Path] = []
        self.digests: dict[str, str] = {}  # key -> of its row
        self.where: dict[str, tuple[int, int]] = {}  # key -> shard, row of its tensor (-1: absent)
        self.reasons: dict[str, str] = {}
        for path in sorted(folder.glob("*.safetensors")):
            try:
                self._index(path, *self._look_at(path))
            except Damaged as reason:
                make_again(reason)
                if owner_of(path) == jax.process_index():
                    path.unlink(missing_ok=True)
            except FileNotFoundError:  # its owner has removed it meanwhile
                continue

    def _look_at(self, path: Path) -> tuple[list[tuple[str, str | None]], np.ndarray]:
        """Keys and reasons of a shard's rows, and the embeddings of those that have one. Raises Damaged."""
        try:
            open_regular(path).close()  # or safetensors would call the system's errors the file's
            with safe_open(path, "np") as shard:
                metadata = shard.metadata()
                content = shard.get_tensor("embeddings")
            earlier = "rows" in metadata
            said = {"rows": json.loads(metadata["rows"]), KEPT: None} if earlier else json.loads(metadata["shard"])
            rows, written = [(str(key), reason) for key, reason in said["rows"]], said[KEPT]
            if len(content) != sum(reason is None for _, reason in rows):
                raise ValueError(f"{len(content)} embeddings")
        except OSError:
            raise
        except Exception as error:  # whatever a damaged header makes of safetensors
            raise Damaged(f"{path}: not a whole shard of features ({error!r})") from error
        if earlier:
            print(f"  {path}: of an earlier version, without a checksum; taken as it is", file=sys.stderr)
        else:
            check(path, written, self.folder.name, rows, content.shape, content.tobytes())
        return rows, content

    def _index(self, path: Path, rows: Sequence[tuple[str, str | None]], embeddings: np.ndarray) -> None:
        number, positions = len(self.shards), count()
        self.shards.append(path)
        self.where |= {key: (number, next(positions) if reason is None else -1) for key, reason in rows}
        self.reasons |= {key: reason for key, reason in rows if reason is not None}
        present = (key for key, reason in rows if reason is None)
        self.digests |= {key: blake2b(row).hexdigest() for key, row in zip(present, embeddings, strict=True)}

    def __contains__(self, key: str) -> bool:
        return key in self.where

    def append(self, rows: Sequence[Row], host: int = 0) -> None:
        """Writes the next shard of a host. Embeddings must share one shape."""
        present = [row.embedding for row in rows if row.embedding is not None]
        embeddings = np.stack(present).astype(np.float32) if present else np.zeros((0, 0), np.float32)
        index = [(row.key, row.reason) for row in rows]
        numbers = [int(path.stem.partition("-")[2]) for path in self.shards if path.name.startswith(f"{host:03d}-")]
        path = self.folder / f"{host:03d}-{max(numbers, default=-1) + 1:06d}.safetensors"
        written = mark(self.folder.name, index, embeddings.shape, embeddings.tobytes())
        said = json.dumps({KEPT: written, "rows": index}, ensure_ascii=False)
        with write_whole(path, mode="wb", own=True) as file:
            file.write(save({"embeddings": embeddings}, {"shard": said}))
        self._index(path, index, embeddings)

    def rows(self, keys: Sequence[str]) -> tuple[Rows, np.ndarray]:
        """Embeddings, zeros where absent, and presence [N] bool, in the order of `keys`.

        Rows of [D] are [N, D]; rows of [F, D], one for each fold, are [F, N, D], or [N, D] if F is 1.
        """
        places = np.array([self.where[key] for key in keys]).reshape(-1, 2)
        present = places[:, 1] >= 0
        shape: tuple[int, ...] = (0,)
        if present.any():
            with safe_open(self.shards[places[present][0, 0]], "np") as shard:
                shape = tuple(shard.get_slice("embeddings").get_shape()[1:])
        folds = shape[:-1] if shape[:-1] != (1,) else ()

        def read(positions: np.ndarray) -> np.ndarray:
            rows = self._read(places[positions], shape)
            return np.moveaxis(rows, 0, -2).reshape(*folds, len(rows), shape[-1])

        return Rows(read, np.arange(len(keys)), folds, shape[-1]), present

    def features(self, keys: Sequence[str]) -> Features:
        """`rows` with the reasons of those that are absent."""
        embeddings, present = self.rows(keys)
        reasons = {i: self.reasons[key] for i, key in enumerate(keys) if not present[i]}
        # Of what stands in the rows, not of where they stand: what a damaged shard held may be computed into another.
        return Features(embeddings, present, reasons, digest_of([self.digests.get(key) for key in keys]))

    def _read(self, places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Rows [n, *shape]. A shard is mapped only while it is read, so that its pages leave the memory again."""
        rows = np.zeros((len(places), *shape), np.float32)
        present = places[:, 1] >= 0
        for number in np.unique(places[present, 0]):
            here = np.flatnonzero(present & (places[:, 0] == number))
            here = here[np.argsort(places[here, 1])]
            positions = places[here, 1]
            neighbours = np.split(np.arange(len(here)), np.flatnonzero(np.diff(positions) != 1) + 1)
            with safe_open(self.shards[number], "np") as shard:
                stored = shard.get_slice("embeddings")
                for part in neighbours:
                    rows[here[part]] = stored[int(positions[part[0]]) : int(positions[part[-1]]) + 1]
        return rows
