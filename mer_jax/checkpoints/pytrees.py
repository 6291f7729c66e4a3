"""What a run trains, kept with Orbax: prompts and ensembles, never a frozen backbone.

In a run that is handed on they are safetensors files, which are read without Orbax.
"""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path, tree_map_with_path
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import write_whole
from mer_jax.runtime.hosts import in_step, is_first_host, meet
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
    """Saves a pytree of arrays, whole or not at all, over an earlier one; the same one is left as it is.

    All hosts have the same tree, and call this together.
    """
    arrays = stored(tree)
    check_finite(folder, arrays)
    if not arrays:  # which Orbax refuses
        folder.mkdir(parents=True, exist_ok=True)
        return
    saved = in_step(folder.name, lambda: is_saved(folder, tree, made_of), found=str)
    if saved:
        return
    if saved is None:
        remove_trained(folder)
    if jax.process_count() > 1:  # Orbax takes no array that is on one host's devices alone
        arrays = jax.tree.map(np.asarray, arrays)
    from orbax.checkpoint import v1 as ocp

    ocp.save(folder.resolve(), arrays, overwrite=True)
    keep(checksums_of(folder), {"files": digests_in(folder)}, made_of)
    meet(folder.name)


def is_saved(folder: Path, tree: Any, made_of: str) -> bool | None:
    """Whether this very tree is there; None where what is there is damaged."""
    if not checksums_of(folder).exists():
        return False
    try:
        earlier = jax.tree.leaves(load_trained(folder, tree, made_of))
    except DataError as reason:
        if isinstance(reason, Damaged):  # else only its checksums are there
            make_again(reason)
        return None
    return all(np.array_equal(a, b) for a, b in zip(earlier, jax.tree.leaves(tree), strict=True))


def load_trained(folder: Path, like: Any, made_of: str = "") -> Any:
    """Loads a pytree of the structure, shapes, dtypes and places of `like`'s arrays.

    Raises:
        DataError: there is none, or (Damaged) it is not as it was written, or something else made it.
    """
    if handed_on(folder).is_file():
        return read_handed_on(handed_on(folder), like)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such checkpoint; expected the workdir of a finished run")
    abstract = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for name, x in stored(like).items()}
    if not abstract:
        return like
    if not checksums_of(folder).exists():
        print(f"  {folder}: without checksums, as of an earlier version; taken as it is", file=sys.stderr)
    elif read_kept(checksums_of(folder), made_of, parse=listed_files) != digests_in(folder):
        raise Damaged(f"{folder}: not as it was written")
    from orbax.checkpoint import v1 as ocp

    try:
        arrays = ocp.load(folder.resolve(), abstract)
    except Exception as error:  # whatever Orbax and what it stands on make of a file
        raise Damaged(
            f"{folder}: not the checkpoint that was expected ({' '.join(str(error).split())[:200]})"
        ) from error
    check_finite(folder, arrays)
    return restored(arrays, like)


def handed_on(folder: Path) -> Path:
    """The file that holds a checkpoint, in a run that is handed on."""
    return folder.with_name(f"{folder.name}.safetensors")


def hand_on(tree: Any, file: Path) -> None:
    """Writes a pytree of arrays for `load_trained` to find in another workdir."""
    arrays = {name: np.ascontiguousarray(x) for name, x in stored(tree).items()}
    with write_whole(file, mode="wb") as opened:
        opened.write(save(arrays))


def read_handed_on(file: Path, like: Any) -> Any:
    """What `hand_on` wrote, as `load_trained` gives it."""
    expected = stored(like)
    try:
        arrays = load_file(file)
    except SafetensorError as error:
        raise Damaged(f"{file}: not a whole safetensors file ({error})") from error
    if {name: (x.shape, x.dtype) for name, x in arrays.items()} != {
        name: (x.shape, x.dtype) for name, x in expected.items()
    }:
        raise Damaged(f"{file}: holds other arrays than the run's settings ask for")
    check_finite(file, arrays)
    return restored({name: jax.device_put(x, expected[name].sharding) for name, x in arrays.items()}, like)


def check_finite(folder: Path, arrays: Mapping[str, Any]) -> None:
    """Raises Damaged where a number is none: nothing is to be predicted from it."""
    for name, leaf in arrays.items():
        if not np.isfinite(np.asarray(leaf, np.float32)).all():
            raise Damaged(f"{folder}: {name} holds numbers that are not finite")


def remove_trained(folder: Path) -> None:
    """Removes a checkpoint, if it is there; of several hosts, the first does."""
    if not is_first_host():
        return
    checksums_of(folder).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
