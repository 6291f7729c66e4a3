"""SigLIP's image tower (Zhai et al. 2023, SigLIP 2: Tschannen et al. 2025; transformers `SiglipVisionModel`).

CLIP's layers, without a class token: a learned query attends to what all patches have become.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from mer_jax.checkpoints.config_classes import SiglipConfig
from mer_jax.models.attention import attention
from mer_jax.models.clip import Mlp, SelfAttention, patch_vectors, run_layers, stacked_layers
from mer_jax.models.layers import LayerNorm, layer_at
from mer_jax.models.port import Port
from mer_jax.models.siglip_weights import RULES
from mer_jax.runtime.array_types import Array, Float
from mer_jax.runtime.errors import DataError


class PoolingHead(nnx.Module):
    """Attention of one learned query, then a feed-forward network."""

    def __init__(self, config: Any, impl: str, *, rngs: nnx.Rngs):
        width = config.hidden_size
        self.query = nnx.Param(nnx.initializers.normal(width**-0.5)(rngs.params(), (1, 1, width)))
        self.attention = SelfAttention(config, impl, rngs=rngs)
        self.layer_norm = LayerNorm(width, config.layer_norm_eps)
        self.mlp = Mlp(config, config.intermediate_size, rngs=rngs)

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B D"]:
        own = self.attention
        q, k, v = own.heads(own.query, self.query[...]), own.heads(own.key, x), own.heads(own.value, x)
        q = jnp.broadcast_to(q, (len(x), *q.shape[1:]))
        pooled = own.out(attention(q, k, v, impl=own.impl).reshape(len(x), -1))
        return pooled + self.mlp(self.layer_norm(pooled[:, None]))[:, 0]


class Siglip(Port):
    """Image encoder.

    Args:
        config: of a whole SigLIP; image size and patch size are single numbers, as in all published checkpoints.
        attention_impl: see `mer_jax.models.attention`.

    Raises:
        DataError: the config asks for a variant that is not ported.
    """

    configs: ClassVar[Mapping[str, Any]] = {"siglip": SiglipConfig}
    rules = staticmethod(lambda config: RULES)
    default_dtype = jnp.bfloat16

    def __init__(self, config: Any, *, attention_impl: str = "auto", rngs: nnx.Rngs):
        vision = config.vision_config
        for name, expected in (("num_channels", 3), ("vision_use_head", True)):
            if (value := getattr(vision, name)) != expected:
                raise DataError(f"config.json asks for {name}={value}; supported is {expected}")
        super().__init__(config)
        self.image_size, width, patch = vision.image_size, vision.hidden_size, vision.patch_size
        normal = nnx.initializers.normal(0.02)
        self.patch_embedding = nnx.Param(normal(rngs.params(), (patch, patch, 3, width)))
        self.patch_bias = nnx.Param(jnp.zeros(width))
        self.position_embedding = nnx.Param(normal(rngs.params(), ((self.image_size // patch) ** 2, width)))
        self.layers = stacked_layers(vision, attention_impl, rngs=rngs)
        self.layer_norm = LayerNorm(width, vision.layer_norm_eps)
        self.head = PoolingHead(vision, attention_impl, rngs=rngs)

    def embed(self, pixels: Float[Array, "B S S 3"]) -> Float[Array, "B T D"]:
        """The patches, as the first layer sees them."""
        if pixels.shape[1:3] != (self.image_size, self.image_size):
            raise ValueError(f"pixels {pixels.shape}: expected [B, {self.image_size}, {self.image_size}, 3]")
        return patch_vectors(pixels, self.patch_embedding[...]) + self.patch_bias + self.position_embedding[...]

    def encode_image(self, pixels: Float[Array | np.ndarray, "B S S 3"]) -> Float[Array, "B D"]:
        """Images, normalised as its folder says -> what the head pools, not L2-normalised (`get_image_features`)."""
        x = run_layers(self.layers, self.embed(jnp.asarray(pixels)))
        return self.head(self.layer_norm(layer_at(self.layers, -1)(x)))
