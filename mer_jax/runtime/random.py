"""Named random streams: every random number of a run comes from one seed and a path of names."""

import zlib

import jax


def named_key(seed: int | jax.Array, *names: str | int | jax.Array) -> jax.Array:
    """Key of the stream `names` under `seed` (an int, or a key to continue from).

    `named_key(0, "fusion", round, fold)` does not depend on what else was drawn, so a resumed run draws the same
    bits.
    """
    key = jax.random.key(seed) if isinstance(seed, int) else seed
    for name in names:
        # `hash` of a string changes from process to process; crc32 does not.
        key = jax.random.fold_in(key, zlib.crc32(name.encode()) if isinstance(name, str) else name)
    return key
