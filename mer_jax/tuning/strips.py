"""Which frames the prompts moved most: strips of a few clips' frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

from mer_jax.data.clips import Clip
from mer_jax.features.readers import VideoReader
from mer_jax.models.emovclip import EmoVCLIP, Prompt
from mer_jax.models.preprocess import clip_pixels
from mer_jax.runtime.files import write_whole

HEIGHT = 96  # px


def write_strips(
    model: EmoVCLIP, plain: EmoVCLIP, prompts: Sequence[Any], clips: Sequence[Clip], reader: VideoReader, folder: Path
) -> list[dict[str, Any]]:
    """Writes `{folder}/{clip}.jpg`, the frames of a clip side by side, for every clip.

    model: gives the backbone; plain: the same network without prompts; prompts: for each clip those that are to
    be shown, none of whose training has seen it.

    Returns:
        For each clip `clip`, `label`, and `moved`: per frame, 1 - cosine of its embeddings without and with prompts.
    """
    graphdef, _, backbone = nnx.split(model, Prompt, ...)  # type: ignore[misc]

    @jax.jit
    def moved(prompt_set: Any, frames: jax.Array) -> jax.Array:
        before = plain.encode_image(frames)
        after = nnx.merge(graphdef, prompt_set, backbone).encode_image(frames)
        return 1 - jnp.sum(before * after, -1) / (jnp.linalg.norm(before, axis=-1) * jnp.linalg.norm(after, axis=-1))

    strips = []
    for prompt_set, clip in zip(prompts, clips, strict=True):
        (chunk,) = reader.chunks(reader.read(clip))
        data, rows, columns, transposed = (jnp.asarray(array[None]) for array in (chunk.data, *chunk.side))
        shift = moved(prompt_set, clip_pixels(data, rows, columns, transposed, reader.preprocessing)[0])
        seen = [np.flatnonzero(weights.any(0)) for weights in chunk.side[:2]]  # rows and columns that CLIP sees
        frames = chunk.data[:, seen[0]][:, :, seen[1]]
        strip = Image.fromarray(np.concatenate(list(frames.swapaxes(1, 2) if chunk.side[2] else frames), axis=1))
        strip = strip.resize((round(strip.width * HEIGHT / strip.height), HEIGHT))
        with write_whole(folder / f"{clip.name}.jpg", mode="wb") as file:
            strip.save(file, format="JPEG", quality=80)
        strips.append({"clip": clip.name, "label": clip.label, "moved": np.asarray(shift).round(4).tolist()})
    return strips
