"""What a run trains, kept with Orbax: prompts and ensembles, never a frozen backbone."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path, tree_map_with_path
from orbax.checkpoint import v1 as ocp

from mer_jax.runtime.errors import DataError
from mer_jax.runtime.kept import Damaged, digests_in, keep, listed_files, make_again, read_kept


def stored(tree: Any) -> dict[str, Any]:
    """The arrays that Orbax can store, by path: all but those without elements, such as prompts of depth 0."""
    return {keystr(path): leaf for path, leaf in tree_leaves_with_path(tree) if leaf.size}


def restored(arrays: dict[str, Any], like: Any) -> Any:
    """The pytree like `like` whose `stored` arrays these are."""
    return tree_map_with_path(lambda path, leaf: arrays.get(keystr(path), leaf), like)


def checksums_of(folder: Path) -> Path:
    """Where the checksums of a checkpoint's files are: beside it."""
    return folder.with_name(f"{folder.name}.files.json")


def save_trained(folder: Path, tree: Any, made_of: str = "") -> None:
    """Saves a pytree of arrays, whole or not at all, over an earlier one; the same one is left as it is."""
    arrays = stored(tree)
    check_finite(folder, arrays)
    if not arrays:  # which Orbax refuses
        folder.mkdir(parents=True, exist_ok=True)
        return
    if checksums_of(folder).exists():
        try:
            earlier = jax.tree.leaves(load_trained(folder, tree, made_of))
            if all(np.array_equal(a, b) for a, b in zip(earlier, jax.tree.leaves(tree), strict=True)):
                return
        except Damaged as reason:
            make_again(reason)
            remove_trained(folder)
        except DataError:  # only its checksums are there
            remove_trained(folder)
    ocp.save(folder.resolve(), arrays, overwrite=True)
    keep(checksums_of(folder), {"files": digests_in(folder)}, made_of)


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
    if not checksums_of(folder).exists():
        print(f"  {folder}: without checksums, as of an earlier version; taken as it is", file=sys.stderr)
    elif read_kept(checksums_of(folder), made_of, parse=listed_files) != digests_in(folder):
        raise Damaged(f"{folder}: not as it was written")
    try:
        arrays = ocp.load(folder.resolve(), abstract)
    except Exception as error:  # whatever Orbax and what it stands on make of a file
        raise Damaged(
            f"{folder}: not the checkpoint that was expected ({' '.join(str(error).split())[:200]})"
        ) from error
    check_finite(folder, arrays)
    return restored(arrays, like)


def check_finite(folder: Path, arrays: Mapping[str, Any]) -> None:
    """Raises Damaged where a number is none: nothing is to be predicted from it."""
    for name, leaf in arrays.items():
        if not np.isfinite(np.asarray(leaf, np.float32)).all():
            raise Damaged(f"{folder}: {name} holds numbers that are not finite")


def remove_trained(folder: Path) -> None:
    """Removes a checkpoint, if it is there."""
    checksums_of(folder).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
