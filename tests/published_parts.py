"""What the makers of tiny checkpoints in published layouts share: random tensors, shapes of layers, small files."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

Shapes = dict[str, tuple[int, ...]]
NEVER_READ = b"raise SystemExit('this is never read')\n"


def draw(shapes: Shapes, dtype: Any = np.float32, seed: int = 0) -> dict[str, np.ndarray]:
    """Tensors of these shapes: scales of norms about 1, all else about 0."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        noise = rng.standard_normal(shape)
        is_scale = not shape or re.search(r"[nN]orm\d?\.weight$|layrnorm\.weight$|weight_g$|lambda1$", name)
        tensors[name] = np.asarray(1 + 0.2 * noise if is_scale else 0.15 * noise, np.float32).astype(dtype)
    return tensors


def write_json(folder: Path, **files: Any) -> None:
    """`config={...}` is `config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2), "utf-8")


def never_read(folder: Path, *names: str) -> None:
    """Files beside a checkpoint that are not for us."""
    for name in names:
        (folder / name).write_bytes(NEVER_READ)


def linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def clip_tower(name: str, layers: int, width: int) -> Shapes:
    shapes: Shapes = {}
    for layer in range(layers):
        prefix = f"{name}.encoder.layers.{layer}"
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            shapes |= linear(f"{prefix}.self_attn.{projection}", width, width)
        shapes |= norm(f"{prefix}.layer_norm1", width) | norm(f"{prefix}.layer_norm2", width)
        shapes |= linear(f"{prefix}.mlp.fc1", 4 * width, width) | linear(f"{prefix}.mlp.fc2", width, 4 * width)
    return shapes
