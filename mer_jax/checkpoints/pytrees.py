"""What a run trains, kept with Orbax: prompts and ensembles, never a frozen backbone."""

from pathlib import Path
from typing import Any

import jax
from jax.tree_util import keystr, tree_leaves_with_path, tree_map_with_path
from orbax.checkpoint import v1 as ocp

from mer_jax.runtime.errors import DataError


def stored(tree: Any) -> dict[str, Any]:
    """The arrays that Orbax can store, by path: all but those without elements, such as prompts of depth 0."""
    return {keystr(path): leaf for path, leaf in tree_leaves_with_path(tree) if leaf.size}


def restored(arrays: dict[str, Any], like: Any) -> Any:
    """The pytree like `like` whose `stored` arrays these are."""
    return tree_map_with_path(lambda path, leaf: arrays.get(keystr(path), leaf), like)


def save_trained(folder: Path, tree: Any) -> None:
    """Saves a pytree of arrays, whole or not at all, over an earlier one."""
    if arrays := stored(tree):
        ocp.save(folder.resolve(), arrays, overwrite=True)
    else:  # which Orbax refuses
        folder.mkdir(parents=True, exist_ok=True)


def load_trained(folder: Path, like: Any) -> Any:
    """Loads a pytree of the structure, shapes, dtypes and places of `like`'s arrays."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such checkpoint; expected the workdir of a finished run")
    abstract = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for name, x in stored(like).items()}
    return restored(ocp.load(folder.resolve(), abstract) if abstract else {}, like)
