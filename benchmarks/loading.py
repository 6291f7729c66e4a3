"""Host memory while a sharded checkpoint is loaded.

    python -m benchmarks.loading [--layers=6] [--folder=DIR]

No peer: the bound is the largest shard and 1 GiB beside the model itself. Writes random bfloat16 weights in the layout
and widths of LLaMA 7B, in shards of 1 GB (removed afterwards). On a CPU the device's memory is the host's: what live
arrays hold is taken off.
"""

import json
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from absl import app, flags
from flax import nnx
from safetensors.numpy import save_file
from transformers import LlamaConfig

from benchmarks.memory import Memory
from benchmarks.timing import seconds_of, show
from mer_jax.models import Baichuan

LAYERS = flags.DEFINE_integer("layers", 6, "0.4 GB each.")
FOLDER = flags.DEFINE_string("folder", None, "Where the checkpoint is written; default the system's temporary folder.")
SHARD = 10**9  # bytes


def shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """The tensors of a LLaMA checkpoint."""
    width, inner = config.hidden_size, config.intermediate_size
    tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, width)}
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        tensors |= {f"{prefix}.self_attn.{name}_proj.weight": (width, width) for name in "qkvo"}
        tensors |= {f"{prefix}.mlp.{name}_proj.weight": (inner, width) for name in ("gate", "up")}
        tensors[f"{prefix}.mlp.down_proj.weight"] = (width, inner)
        tensors |= {f"{prefix}.{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
    return tensors | {"model.norm.weight": (width,), "lm_head.weight": (config.vocab_size, width)}


def write_checkpoint(folder: Path, config: LlamaConfig) -> list[int]:
    """Returns the bytes of its shards."""
    config.save_pretrained(folder)
    shape_of = shapes(config)
    values = np.random.default_rng(0).standard_normal(max(map(np.prod, shape_of.values())), np.float32)
    values = (values * 0.02).astype(ml_dtypes.bfloat16)
    shards: list[dict[str, np.ndarray]] = [{}]
    for name, shape in shape_of.items():
        tensor = values[: np.prod(shape)].reshape(shape)
        if sum(other.nbytes for other in shards[-1].values()) + tensor.nbytes > SHARD:
            shards.append({})
        shards[-1][name] = tensor
    where: dict[str, str] = {}
    for number, shard in enumerate(shards):
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file)
        where |= dict.fromkeys(shard, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return [path.stat().st_size for path in folder.glob("*.safetensors")]


def main(_: list[str]) -> None:
    """The benchmark."""
    config = LlamaConfig(num_hidden_layers=LAYERS.value)
    with tempfile.TemporaryDirectory(dir=FOLDER.value) as name:
        folder = Path(name)
        sizes = write_checkpoint(folder, config)
        jnp.zeros(1).block_until_ready()  # starts the backend
        with Memory() as memory:
            seconds = seconds_of(lambda: jax.tree.leaves(nnx.state(Baichuan.from_pretrained(folder, jnp.bfloat16))))
    beside = memory.resident - memory.resident[0] - memory.arrays
    largest = max(sizes) / 2**20
    row = {
        "checkpoint, MiB": round(sum(sizes) / 2**20),
        "largest shard, MiB": round(largest),
        "model, MiB": round(memory.arrays.max()),
        "beside the model, MiB": round(beside.max()),
        "of it mapped files, MiB": round(memory.files[beside.argmax()] - memory.files[0]),
        "bound, MiB": round(largest + 1024),
        "seconds": round(seconds, 1),
    }
    show([row], benchmark="loading")


if __name__ == "__main__":
    app.run(main)
