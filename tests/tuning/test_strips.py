"""Strips of frames: what is shown and what is said of it."""

import numpy as np
from flax import nnx
from PIL import Image

from mer_jax.features.readers import VideoReader
from mer_jax.models.emovclip import EmoVCLIP, Prompt
from mer_jax.tuning.strips import HEIGHT, write_strips
from tests.tuning.conftest import backbone, tokenizer


def test_moves_are_those_of_the_clips_own_prompts(clips, tmp_path):
    plain = EmoVCLIP(backbone(), ["left", "top"], 0, 0, tokenizer=tokenizer, rngs=nnx.Rngs(0))
    model, other = (
        EmoVCLIP(backbone(), ["left", "top"], 2, 2, tokenizer=tokenizer, rngs=nnx.Rngs(seed)) for seed in (1, 2)
    )
    own, others = (nnx.split(network, Prompt, ...)[1] for network in (model, other))
    one, two = write_strips(model, plain, [own, others], [clips[0]] * 2, VideoReader(16, 3), tmp_path)
    (again,) = write_strips(other, plain, [own], [clips[0]], VideoReader(16, 3), tmp_path)
    assert one["clip"] == clips[0].name and one["label"] == clips[0].label
    assert len(one["moved"]) == 3 and min(one["moved"]) > 0 and max(one["moved"]) <= 2
    assert one == again != two

    with Image.open(tmp_path / f"{clips[0].name}.jpg") as strip:
        assert strip.size == (3 * HEIGHT, HEIGHT)
        shown = np.asarray(strip.convert("RGB"))
    assert shown[:10].mean() > 200 > shown[-40:].mean()  # the first clip is bright on top


def test_without_prompts_nothing_moves(clips, tmp_path):
    plain = EmoVCLIP(backbone(), ["left", "top"], 0, 0, tokenizer=tokenizer, rngs=nnx.Rngs(0))
    _, none, _ = nnx.split(plain, Prompt, ...)
    (strip,) = write_strips(plain, plain, [none], [clips[0]], VideoReader(16, 3), tmp_path)
    np.testing.assert_allclose(strip["moved"], 0, atol=1e-4)
