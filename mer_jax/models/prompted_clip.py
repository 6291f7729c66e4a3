"""CLIP's towers with learned tokens, the prompts, beside those of their input (ViFi-CLIP, clip/model.py).

Each of the first layers has prompts of its own. Those that the next layer replaces are only keys and values; the last
ones are tokens from there on. They are listed after the input's tokens, wherever they stand.
"""

from functools import partial

import jax
import jax.numpy as jnp

from mer_jax.models.clip import Layer, TextTower, VisionTower, append, num_layers
from mer_jax.models.layers import layer_at, unrolled
from mer_jax.runtime.array_types import Array, Bool, Float, Int


def encode_image(
    tower: VisionTower, pixels: Float[Array, "B H W 3"], prompts: Float[Array, "depth K D"], *, remat: bool = False
) -> Float[Array, "B P"]:
    """`tower(pixels)` with prompts, which have no position. remat: see `run_layers`."""
    prompts = image_prompts(tower, prompts)
    return tower.pool(run_layers(tower.layers, tower.embed(pixels), prompts, remat=remat))


def encode_text(
    tower: TextTower, token_ids: Int[Array, "B T"], prompts: Float[Array, "depth K D"], *, remat: bool = False
) -> Float[Array, "B P"]:
    """`tower(token_ids)` with prompts, which stand after the start token. remat: see `run_layers`."""
    length = token_ids.shape[1]
    position = text_positions(tower, length, prompts.shape[1])
    x, mask = tower.embed(token_ids, position[:length]), position <= position[:, None]
    x = run_layers(tower.layers, x, text_prompts(tower, prompts), mask, remat=remat)
    return tower.pool(x, token_ids, position)


def image_prompts(tower: VisionTower, prompts: Float[Array, "depth K D"]) -> Float[Array, "depth K D"]:
    """As the layers see them: those of layer 0 are normalised like patches."""
    return prompts.at[0].set(tower.ln_pre(prompts[0].astype(tower.class_embedding.dtype)))


def text_prompts(tower: TextTower, prompts: Float[Array, "depth K D"]) -> Float[Array, "depth K D"]:
    """As the layers see them: those of layer 0 get their positions."""
    return prompts.at[0].add(tower.position_embedding[1 : 1 + prompts.shape[1]])


def text_positions(tower: TextTower, length: int, num_prompts: int) -> Int[Array, "S"]:
    """Where `length` tokens and the prompts, listed last, stand."""
    start, prompts, rest = jnp.split(tower.positions(length + num_prompts), (1, 1 + num_prompts))
    return jnp.concatenate([start, rest, prompts])


def run_layers(
    layers: Layer,
    x: Float[Array, "B T D"],
    prompts: Float[Array, "depth K D"],
    mask: Bool[Array, "T+K T+K"] | None = None,
    *,
    remat: bool = False,
) -> Float[Array, "B T+K D"]:
    """What the last of a tower's stacked layers, at least `depth`, sees of the tokens `x` and of the prompts, last.

    Args:
        mask: False hides a key (column) from a query (row).
        remat: keep only the layers' inputs for the backward pass; otherwise the results of the linear maps as well,
            but not attention's logits, which take the more memory and the less work.
    """

    def step(x: jax.Array, inputs: tuple[jax.Array | int, jax.Array | None]) -> tuple[jax.Array, None]:
        index, context = inputs
        seen = None if mask is None else mask[: x.shape[1]]
        return layer_at(layers, index)(x, context, seen), None

    policy = None if remat else jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    checkpoint = partial(jax.checkpoint, policy=policy)
    # Inside a loop, XLA cannot undo the recomputation; unrolled, it may do so with what is cheap to keep.
    looped = checkpoint(step, prevent_cse=remat)
    replaced = prompts[:-1, None].astype(x.dtype)  # [depth - 1, 1, K, D]
    if len(replaced):
        x = checkpoint(step)(x, (0, replaced[0]))[0]  # no part of the loop, which would want gradients of its tokens
    # Unrolled, what a layer keeps for the backward pass stays where it is, and is not copied into a stack of all.
    x = jax.lax.scan(looped, x, (jnp.arange(1, len(replaced)), replaced[1:]), unroll=unrolled(x, True))[0]
    x = append(x, prompts[-1:])
    rest = jnp.arange(len(replaced), num_layers(layers) - 1)
    return jax.lax.scan(looped, x, (rest, None), unroll=unrolled(x, True))[0]
