"""A small backbone, and clips whose two kinds it can tell apart."""

from functools import cache

import numpy as np
import pytest
from flax import nnx
from transformers import CLIPConfig

from mer_jax.data.clips import Clip
from mer_jax.models.clip import CLIP
from tests.data.media_files import write_video

CONFIG = CLIPConfig(
    text_config={
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 50,
        "max_position_embeddings": 16,
        "eos_token_id": 49,
    },
    vision_config={
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    },
    projection_dim=16,
)


def tokenizer(texts):
    """Letters, between a start and an end token."""
    return {"input_ids": [[0, *[1 + ord(letter) % 40 for letter in text[:8]], 49] for text in texts]}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Twelve clips of two kinds: bright on the left, or bright on top (flips do not mix them up)."""
    folder = tmp_path_factory.mktemp("clips")
    made = []
    for i in range(12):
        frames = np.random.default_rng(i).integers(0, 60, (5 + i % 3, 32, 32, 3)).astype(np.uint8)
        frames[(slice(None), slice(None), slice(0, 8)) if i % 2 else (slice(None), slice(0, 8))] = 255
        write_video(folder / f"{i}.mp4", frames)
        made.append(Clip(str(i), "train", media=folder / f"{i}.mp4", label=str(i % 2)))
    return made


@cache
def backbone():
    return CLIP(CONFIG, rngs=nnx.Rngs(0))
