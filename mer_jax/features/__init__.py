"""From frame features to stored clip features."""

from mer_jax.features.pooling import mean_variance, merge_mean_variance

__all__ = ["mean_variance", "merge_mean_variance"]
