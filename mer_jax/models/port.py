"""What every port has: weights of a checkpoint in Hugging Face layout, read and written by the table beside it."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jax.typing import DTypeLike

from mer_jax.checkpoints.huggingface import fetch, load_pretrained, read_config, save_pretrained

Network = TypeVar("Network", bound="Port")


class Port(nnx.Module):
    """A network that is made of a config.

    Args:
        config: of one of `configs`.
        options: of the subclass.
    """

    configs: ClassVar[Mapping[str, Any]]  # `model_type` -> its config class
    rules: ClassVar[Any]  # config -> [Rule], the table of its weights
    prefixes: ClassVar[Sequence[str]] = ("model.",)  # of tensors in a task model, beside `model_type`'s
    default_dtype: ClassVar[DTypeLike] = jnp.float32

    def __init__(self, config: Any, **options: Any):
        self.config_json = config.to_json_string()  # jit needs hashable attributes, a config is none

    @classmethod
    def from_pretrained(
        cls: type[Network], source: str | Path, dtype: DTypeLike | None = None, mesh: Mesh | None = None, **options: Any
    ) -> Network:
        """Loads a folder in Hugging Face layout, or a hub id ("openai/clip-vit-large-patch14").

        Args:
            dtype: of weights and activations; by default the class's. Softmax and norm statistics are float32.
            mesh: see `load_pretrained`, which has the errors, too.
            options: of the class, such as `attention_impl`.
        """
        folder = fetch(source)
        config = read_config(folder, cls.configs)
        dtype = cls.default_dtype if dtype is None else dtype
        prefixes = (*cls.prefixes, f"{config.model_type}.")
        return load_pretrained(partial(cls, config, **options), cls.rules(config), folder, dtype, mesh, prefixes)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes a folder that transformers reads, without what the port leaves out (a decoder, a text tower)."""
        fields = json.loads(self.config_json)
        config = self.configs[fields["model_type"]].from_dict(fields)
        save_pretrained(self, self.rules(config), config, folder)
