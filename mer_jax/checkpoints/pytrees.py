"""What a run trains, kept with Orbax: prompts and ensembles, never a frozen backbone."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path, tree_map_with_path
from orbax.checkpoint import v1 as ocp

from mer_jax.runtime.errors import DataError
from mer_jax.runtime.kept import Damaged, check, mark


def stored(tree: Any) -> dict[str, Any]:
    """The arrays that Orbax can store, by path: all but those without elements, such as prompts of depth 0."""
    return {keystr(path): leaf for path, leaf in tree_leaves_with_path(tree) if leaf.size}


def restored(arrays: dict[str, Any], like: Any) -> Any:
    """The pytree like `like` whose `stored` arrays these are."""
    return tree_map_with_path(lambda path, leaf: arrays.get(keystr(path), leaf), like)


def content_of(arrays: Mapping[str, Any]) -> Iterator[Any]:
    """What a checkpoint's checksum is of."""
    for name, leaf in sorted(arrays.items()):
        yield from (name, str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes())


def save_trained(folder: Path, tree: Any) -> None:
    """Saves a pytree of arrays, whole or not at all, over an earlier one; the same one is left as it is."""
    arrays = stored(tree)
    if not arrays:  # which Orbax refuses
        folder.mkdir(parents=True, exist_ok=True)
        return
    written = mark("", *content_of(arrays))
    with suppress(Exception):  # none is there, or a damaged one
        if ocp.metadata(folder.resolve()).custom_metadata == written and load_trained(folder, tree) is not None:
            return
    ocp.save(folder.resolve(), arrays, overwrite=True, custom_metadata=written)


def load_trained(folder: Path, like: Any, made_of: str = "") -> Any:
    """Loads a pytree of the structure, shapes, dtypes and places of `like`'s arrays.

    Raises:
        DataError: there is none, or (Damaged) it is not as it was written, or something else made it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such checkpoint; expected the workdir of a finished run")
    abstract = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for name, x in stored(like).items()}
    if not abstract:
        return like
    try:
        written = ocp.metadata(folder.resolve()).custom_metadata
        arrays = ocp.load(folder.resolve(), abstract)
    except Exception as error:  # whatever a damaged file makes of Orbax and what it stands on
        raise Damaged(f"{folder}: not a whole checkpoint ({' '.join(str(error).split())[:200]})") from error
    if written:
        check(folder, written, made_of, *content_of(arrays))
    else:
        print(f"  {folder}: of an earlier version, without a checksum; taken as it is", file=sys.stderr)
    return restored(arrays, like)
