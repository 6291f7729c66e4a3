import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import AutoTokenizer, CLIPModel, CLIPTokenizer

from mer_jax.checkpoints.sources import ASSETS
from mer_jax.models.clip import CLIP
from mer_jax.models.preprocess import MEAN, STD
from tests.models.test_clip import torch_features
from tests.oracle import load_torch

FOLDER = ASSETS / "clip"
PROMPTS = ["a photo of a happiness.", "a person with raised brows and wide eyes", "高兴"]


@pytest.fixture(scope="module")
def clip():
    return CLIP.from_pretrained(FOLDER, dtype=jnp.float32)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


def assert_close(actual, expected):
    """Within 1e-4 of the output's scale."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_images_and_texts_as_transformers_encodes_them(clip, oracle, tokenizer):
    pixels = np.random.default_rng(0).normal(size=(3, 48, 48, 3)).astype(np.float32)
    ids = tokenizer(PROMPTS, padding=True, return_tensors="np")["input_ids"]
    expected = oracle("assets/clip", lambda: torch_features(load_torch(CLIPModel, FOLDER), pixels, ids))
    assert_close(jax.jit(CLIP.encode_image)(clip, pixels), expected["images"])
    assert_close(jax.jit(CLIP.encode_text)(clip, ids), expected["texts"])


def test_tokenizer(tokenizer):
    assert isinstance(tokenizer, CLIPTokenizer)
    ids = tokenizer(PROMPTS)["input_ids"]
    text_config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))["text_config"]
    for row in ids:
        assert row[0] == text_config["bos_token_id"] == tokenizer.bos_token_id
        assert row.index(text_config["eos_token_id"]) == len(row) - 1
    assert len(tokenizer) == text_config["vocab_size"]
    assert tokenizer.convert_ids_to_tokens(ids[0][1:-1]) == [
        "a</w>",
        "photo</w>",
        "of</w>",
        "a</w>",
        "happiness</w>",
        ".</w>",
    ]
    assert tokenizer.decode(ids[2], skip_special_tokens=True) == PROMPTS[2]


def test_slow_and_fast_files_agree(tokenizer):
    """`vocab.json` and `merges.txt` are what transformers 4's tokenizer reads."""
    vocabulary = json.loads((FOLDER / "vocab.json").read_text(encoding="utf-8"))
    merges = (FOLDER / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    rebuilt = CLIPTokenizer(vocabulary, [tuple(line.split()) for line in merges])
    assert rebuilt(PROMPTS)["input_ids"] == tokenizer(PROMPTS)["input_ids"]


def test_preprocessor_is_ours():
    settings = json.loads((FOLDER / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert settings["size"] == {"shortest_edge": 48}
    assert settings["crop_size"] == {"height": 48, "width": 48}
    assert settings["resample"] == 3  # bicubic
    np.testing.assert_allclose(settings["image_mean"], MEAN)
    np.testing.assert_allclose(settings["image_std"], STD)


def test_the_bundled_encoders_are_small():
    assert sum(file.stat().st_size for file in ASSETS.rglob("*") if file.is_file()) <= 8e6
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 1.5e6
