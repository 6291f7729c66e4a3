"""The one training loop behind the bundled encoders."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import jax
import optax
from flax import nnx

from mer_jax.runtime.random import named_key

Module = TypeVar("Module", bound=nnx.Module)


def fit(
    model: Module,
    loss_fn: Callable[[Module, Any, jax.Array], jax.Array],
    batches: Iterable[Any],
    steps: int,
    learning_rate: float = 1e-3,
    *,
    warmup: int = 100,
    weight_decay: float = 0.01,
    max_norm: float = 1.0,
    seed: int = 0,
    print_every: int = 200,
) -> Module:
    """AdamW with linear warm-up, cosine decay to zero and gradient clipping, on one device.

    Args:
        model: its `nnx.Param` variables are trained.
        loss_fn: model, batch and a random key of the step's own -> scalar.
        batches: trees of arrays, `steps` or more, all of the same shapes so that one program serves.
        steps: number of updates.
        learning_rate: the peak, reached after `warmup` steps.
        weight_decay: decoupled, as in AdamW.
        max_norm: longer gradients are cut to this length.
        seed: of the keys.
        print_every: steps from one printed line to the next: step, mean loss since the last line, seconds.

    Returns:
        The trained module.
    """
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(max_norm), optax.adamw(schedule, weight_decay=weight_decay))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(params: nnx.State, moments: optax.OptState, batch: Any, key: jax.Array) -> tuple[Any, ...]:
        loss, grads = jax.value_and_grad(lambda params: loss_fn(nnx.merge(graphdef, params, rest), batch, key))(params)
        updates, moments = optimizer.update(grads, moments, params)
        return optax.apply_updates(params, updates), moments, loss

    params = jax.tree.map(lambda x: x.copy(), params)  # the caller's arrays are not donated
    moments = optimizer.init(params)
    losses: list[jax.Array] = []
    start = time.monotonic()
    for step, batch in zip(range(1, steps + 1), batches, strict=False):
        params, moments, loss = update(params, moments, batch, named_key(seed, "fit", step))
        losses.append(loss)
        if step % print_every == 0 or step == steps:
            mean = sum(map(float, losses)) / len(losses)
            print(f"step {step:5d}/{steps}  loss {mean:.4f}  {time.monotonic() - start:.0f} s", flush=True)
            losses.clear()
    return nnx.merge(graphdef, params, rest)
