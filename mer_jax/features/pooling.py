"""Frame features to one vector per clip: mean and variance over the real frames (paper, section 3.2)."""

import jax.numpy as jnp
import numpy as np

from mer_jax.runtime.array_types import Array, Float, Float32, Int


def mean_variance(
    x: Float[Array | np.ndarray, "B T C"], lengths: Int[Array | np.ndarray, "B"]
) -> Float32[Array, "B 2*C"]:
    """Mean and population variance over time, concatenated.

    Two passes in float32: the variance of features far from zero stays exact. Padding at the end is never read (it may
    be NaN). A clip of length 0 pools to zeros, one frame has variance 0.
    """
    real = (jnp.arange(x.shape[1]) < lengths[:, None])[..., None]  # [B, T, 1]
    count = jnp.maximum(lengths, 1)[:, None].astype(jnp.float32)
    frames = jnp.where(real, x.astype(jnp.float32), 0)
    mean = frames.sum(axis=1) / count  # [B, C]
    variance = jnp.where(real, jnp.square(frames - mean[:, None]), 0).sum(axis=1) / count
    return jnp.concatenate([mean, variance], axis=-1)


def merge_mean_variance(
    counts: Int[np.ndarray, "chunks"], pooled: Float[np.ndarray, "chunks D"]
) -> Float32[np.ndarray, "D"]:
    """Pools a clip from its chunks' pools, as if its frames had never been cut (Chan et al. 1979).

    Args:
        counts: frames of each chunk; chunks without frames change nothing.
        pooled: `mean_variance` of each chunk, D = 2 C.
    """
    share = np.asarray(counts, np.float64) / max(np.sum(counts), 1)
    means, variances = np.split(np.asarray(pooled, np.float64), 2, axis=-1)  # [chunks, C]
    mean = share @ means
    variance = share @ (variances + np.square(means - mean))
    return np.concatenate([mean, variance]).astype(np.float32)
