"""What a run trains, kept with Orbax: prompts and ensembles, never a frozen backbone."""

from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from mer_jax.errors import DataError


def save_trained(folder: Path, tree: Any) -> None:
    """Saves a pytree of arrays, whole or not at all, over an earlier one."""
    ocp.save_pytree(folder.resolve(), tree, overwrite=True)


def load_trained(folder: Path, like: Any) -> Any:
    """Loads a pytree of the structure, shapes, dtypes and places of `like`'s arrays."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such checkpoint; expected the workdir of a finished run")
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
    return ocp.load_pytree(folder.resolve(), abstract)
