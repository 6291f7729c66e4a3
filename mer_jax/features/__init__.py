"""From frame features to stored clip features."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mer_jax.features.pooling import mean_variance, merge_mean_variance

__all__ = ["mean_variance", "merge_mean_variance"]


def __getattr__(name: str) -> Any:
    """Pooling brings JAX, which settings do without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mer_jax.features import pooling

    return getattr(pooling, name)
