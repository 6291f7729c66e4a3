"""Shapes in the places of arrays and weights: what a program is compiled for, without any memory."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike

from mer_jax.checkpoints.huggingface import REPLICATED, Rule


def batch(mesh: Mesh, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
    """An array split over the mesh's data axis."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P("data")))


def copies(tree: Any, mesh: Mesh) -> Any:
    """A pytree of which every device of the mesh has a copy."""
    sharding = NamedSharding(mesh, REPLICATED)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def weights(factory: Callable[[], nnx.Module], rules: Sequence[Rule], mesh: Mesh, prefix: str = "") -> Any:
    """A module as `load_pretrained` would place it in bfloat16.

    Args:
        factory: makes the module; only traced.
        rules: of its checkpoint.
        mesh: where it goes; variables that no rule names are replicated and keep their dtype.
        prefix: of the rules' targets in the module.
    """
    rule_of = {f"{prefix}{target}": rule for rule in rules for target in rule.targets}

    def place(path: tuple[Any, ...], variable: Any) -> Any:
        rule = rule_of.get(".".join(map(str, path)))
        dtype = (rule.dtype or jnp.bfloat16) if rule else variable.dtype
        sharding = NamedSharding(mesh, rule.partition if rule else REPLICATED)
        return variable.replace(jax.ShapeDtypeStruct(variable.shape, dtype, sharding=sharding))

    graphdef, state = nnx.split(nnx.eval_shape(factory))
    return nnx.merge(graphdef, nnx.map_state(place, state))
