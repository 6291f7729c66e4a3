"""EmoVCLIP: CLIP for emotional videos, frozen but for prompt tokens in both towers (paper, section 3.1).

The prompts follow ViFi-CLIP (muzairkhattak/ViFi-CLIP, clip/model.py, trainers/vificlip.py): learned tokens of
their own for each of the first layers, in the image and the text tower, independent of each other.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mer_jax.defaults import DEPTH, NUM_PROMPTS
from mer_jax.models import prompted_clip
from mer_jax.models.clip import CLIP
from mer_jax.runtime.array_types import Array, Bool, Float, Float32, Int
from mer_jax.runtime.errors import UsageError


class Prompt(nnx.Param):
    """Learnable prompt tokens: all that EmoVCLIP trains."""


class EmoVCLIP(nnx.Module):
    """Classifies clips by the cosine between the mean frame embedding and the classes' text embeddings.

    `vision_prompts` and `text_prompts`, both [depth, K, D], are its only `Prompt` variables, float32 whatever
    the backbone is: `nnx.split(model, Prompt, ...)` separates what is trained from what is frozen.

    Args:
        clip: the frozen backbone.
        class_names: nouns, in label order.
        num_prompts: K, tokens per layer, for both towers or as (vision, text). 0: plain CLIP.
        depth: layers with prompts of their own, for both towers or as (vision, text). 0: plain CLIP.
        tokenizer: the backbone's; texts -> `{"input_ids": unpadded lists of ids}`, each with its start and end token.
        context: words that the text prompts start from; without text prompts they stand before the template.
        template: what follows the prompts; `{}` is the class name.
        remat: recompute each layer in the backward pass instead of keeping its activations.
        rngs: initial prompts, normal with standard deviation 0.02; but the text prompts of layer 0 are the token
            embeddings of `context`, if that has at least K tokens.

    Raises:
        UsageError: `depth` exceeds a tower's layers, or a class text exceeds the text tower's positions.
    """

    def __init__(
        self,
        clip: CLIP,
        class_names: Sequence[str],
        num_prompts: int | tuple[int, int] = NUM_PROMPTS,
        depth: int | tuple[int, int] = DEPTH,
        *,
        tokenizer: Callable[[list[str]], Mapping[str, Any]],
        context: str = "a photo of a",
        template: str = "{}.",
        remat: bool = False,
        rngs: nnx.Rngs,
    ):
        self.clip, self.remat = clip, remat
        vision_shape, text_shape = _prompt_shapes(clip, num_prompts, depth)
        normal = nnx.initializers.normal(0.02)
        self.vision_prompts = Prompt(normal(rngs.params(), vision_shape))
        text_prompts = normal(rngs.params(), text_shape)

        texts = [template.format(name) for name in class_names]
        count = text_shape[1] if text_prompts.size else 0
        if count:
            (_, *words, _), *ids = tokenizer([context, *texts])["input_ids"]
            if len(words) >= count:
                embeddings = clip.text.token_embedding[jnp.array(words[:count])]
                text_prompts = text_prompts.at[0].set(embeddings.astype(text_prompts.dtype))
        else:
            ids = tokenizer([f"{context} {text}" for text in texts])["input_ids"]
        self.text_prompts = Prompt(text_prompts)
        self.token_ids = nnx.Variable(_pad(ids, count, clip.text.position_embedding.shape[0]))  # [C, L]

    def encode_image(self, frames: Float[Array | np.ndarray, "B H W 3"]) -> Float32[Array, "B P"]:
        """Frames, normalised as CLIP wants -> their embeddings, not L2-normalised."""
        if not self.vision_prompts.size:
            return self.clip.encode_image(frames).astype(jnp.float32)
        prompts, pixels = self.vision_prompts[...], jnp.asarray(frames)
        x = prompted_clip.encode_image(self.clip.vision, pixels, prompts, remat=self.remat)
        return x.astype(jnp.float32)

    def encode_video(
        self, frames: Float[Array | np.ndarray, "B T H W 3"], mask: Bool[Array | np.ndarray, "B T"] | None = None
    ) -> Float32[Array, "B P"]:
        """Mean of the frames' embeddings, not L2-normalised: the clip's feature for fusion.

        Args:
            frames: normalised as CLIP wants.
            mask: False where a frame is padding; None if all are real.
        """
        batch, time = frames.shape[:2]
        x = self.encode_image(frames.reshape(-1, *frames.shape[2:])).reshape(batch, time, -1)
        if mask is None:
            return x.mean(axis=1)
        count = jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
        return jnp.sum(x, axis=1, where=mask[..., None]) / count

    def class_features(self) -> Float32[Array, "C P"]:
        """L2-normalised text features of the classes."""
        if self.text_prompts.size:
            prompts = self.text_prompts[...]
            x = prompted_clip.encode_text(self.clip.text, self.token_ids[...], prompts, remat=self.remat)
        else:
            x = self.clip.encode_text(self.token_ids[...])
        return _normalise(x.astype(jnp.float32))

    def logits(self, video: Float32[Array, "B P"], class_features: Float32[Array, "C P"]) -> Float32[Array, "B C"]:
        """From what `encode_video` and `class_features` give."""
        return jnp.exp(self.clip.logit_scale[...]) * _normalise(video) @ class_features.T

    def __call__(
        self, frames: Float[Array | np.ndarray, "B T H W 3"], mask: Bool[Array | np.ndarray, "B T"] | None = None
    ) -> Float32[Array, "B C"]:
        """The classes' logits; arguments as of `encode_video`."""
        return self.logits(self.encode_video(frames, mask), self.class_features())


def _prompt_shapes(
    clip: CLIP, num_prompts: int | tuple[int, int], depth: int | tuple[int, int]
) -> list[tuple[int, int, int]]:
    """(depth, K, D) of the vision and the text prompts."""
    counts = (num_prompts, num_prompts) if isinstance(num_prompts, int) else num_prompts
    depths = (depth, depth) if isinstance(depth, int) else depth
    shapes = []
    for name, count, deep in zip(("vision", "text"), counts, depths, strict=True):
        most, width = getattr(clip, name).layers.ln_1.scale.shape
        if deep > most:
            raise UsageError(f"EmoVCLIP: depth={deep}, but the {name} tower has {most} layers; lower the depth.")
        shapes.append((deep, count, width))
    return shapes


def _pad(ids: list[list[int]], num_prompts: int, most: int) -> Int[Array, "C T"]:
    """Rows of any length -> rows of one; what follows the end token is never read."""
    length = max(map(len, ids))
    tokens = num_prompts + length
    if tokens > most:
        raise UsageError(
            f"EmoVCLIP: a class text and its prompts have {tokens} tokens, but CLIP takes {most}; shorten it."
        )
    return jnp.array([row + row[-1:] * (length - len(row)) for row in ids], jnp.int32)


def prompt_sets(models: Iterable[EmoVCLIP]) -> Any:
    """The prompts of several models, stacked: leaves [R, ...]."""
    sets = [nnx.split(model, Prompt, ...)[1] for model in models]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *sets)


def _normalise(x: Float[Array, "B P"]) -> Float[Array, "B P"]:
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), jnp.finfo(x.dtype).tiny))
