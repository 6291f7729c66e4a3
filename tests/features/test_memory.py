"""The memory that encoders take, by formula, against what compiling says."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from transformers import BertConfig, Dinov2Config, RobertaConfig, SiglipConfig, WavLMConfig, WhisperConfig

from configs.semi import get_config
from mer_jax.features.encoders import embed_images, embed_speech, embed_text
from mer_jax.features.memory import Needed, check_memory, encoder_memory, images_at_once
from mer_jax.features.networks import checkpoint_of
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.settings import read_settings
from mer_jax.settings import Settings

SETTINGS = read_settings(Settings, get_config()).encoders
EMBED = {
    "speech": partial(embed_speech, keep_layers=4),
    "image": embed_images,
    "text": partial(embed_text, keep_layers=4),
}


def largest_batch(modality, side=48, seconds=SETTINGS.speech.chunk_seconds):
    """Shapes of the arrays of an encoder's largest batch, of images of so many pixels and pieces of so many seconds."""
    array = jax.ShapeDtypeStruct
    if modality == "speech":
        own = SETTINGS.speech
        rows, samples = int(own.batch_seconds // seconds), int(seconds * own.sample_rate)
        per_row = array((rows,), jnp.float32)
        return array((rows, samples), jnp.int16), array((rows,), jnp.int32), per_row, per_row
    if modality == "image":
        frames = max(SETTINGS.image.buckets_frames)
        rows = SETTINGS.image.batch_frames // frames
        return array((rows, frames, side, side, 3), jnp.float32), array((rows,), jnp.int32)
    tokens = max(SETTINGS.text.buckets_tokens)
    rows = SETTINGS.text.batch_tokens // tokens
    return array((rows, tokens), jnp.int32), array((rows,), jnp.int32)


@pytest.mark.parametrize("modality", ["speech", "image", "text"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_formulas_are_what_compiling_says_or_somewhat_more(modality, dtype):
    check_formula(modality, dtype, getattr(SETTINGS, modality).source)


WIDTHS = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
VOCABULARY = {"vocab_size": 500, "max_position_embeddings": 600}
TOWER = WIDTHS | {"image_size": 84, "patch_size": 14}
BIT = {"size": {"shortest_edge": 84}, "crop_size": {"height": 84, "width": 84}}
PORTS = {
    "wavlm": ("speech", WavLMConfig(**WIDTHS, conv_dim=[32] * 7), {}, {}),
    "whisper": (
        "speech",
        WhisperConfig(d_model=64, encoder_layers=4, encoder_attention_heads=4, encoder_ffn_dim=256),
        {},
        {"seconds": 30.0},
    ),
    "dinov2": ("image", Dinov2Config(**TOWER), BIT, {"side": 84}),
    "siglip": ("image", SiglipConfig(vision_config=TOWER), {"size": {"height": 84, "width": 84}}, {"side": 84}),
    "bert": ("text", BertConfig(**WIDTHS, **VOCABULARY), {}, {}),
    "roberta": ("text", RobertaConfig(**WIDTHS, **VOCABULARY), {}, {}),
}


@pytest.mark.parametrize("port", PORTS)
def test_the_formulas_hold_for_every_port(port, tmp_path):
    modality, config, preprocessing, sizes = PORTS[port]
    config.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    check_formula(modality, "bfloat16", str(tmp_path), **sizes)


def check_formula(modality, dtype, source, **sizes):
    own, embed = replace(getattr(SETTINGS, modality), source=source), EMBED[modality]
    _, config, network = checkpoint_of(source, modality)
    graphdef, state = nnx.split(nnx.eval_shape(lambda: network(config, rngs=nnx.Rngs(0))))
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), state)
    program = jax.jit(lambda state, *arrays: embed(nnx.merge(graphdef, state), *arrays))
    memory = program.lower(state, *largest_batch(modality, **sizes)).compile().memory_analysis()
    held = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    settings = type(SETTINGS)(**{modality: replace(own, dtype=dtype)})
    needed = encoder_memory(settings, modality, "cpu")
    assert held <= 1.05 * sum(needed) and sum(needed) <= 3 * held, (held, needed)


def test_a_cpu_holds_the_layers_of_short_weights_twice():
    own = type(SETTINGS)(text=type(SETTINGS.text)(source="bundled/baichuan", dtype="bfloat16"))
    on_cpu, elsewhere = (encoder_memory(own, "text", platform).weights for platform in ("cpu", "gpu"))
    assert 2 * elsewhere < on_cpu < 3 * elsewhere


def test_devices_that_share_the_weights_share_the_memory():
    alone, shared = (
        encoder_memory(
            type(SETTINGS)(text=type(SETTINGS.text)(source="bundled/baichuan", model_parallel=n)), "text", "gpu"
        )
        for n in (1, 2)
    )
    assert shared == Needed(alone.weights // 2, alone.batch // 2)


def test_what_does_not_fit_a_device_is_said_with_what_to_do():
    needed = Needed(weights=2_000_000_000, batch=2_000_000_000)
    check = partial(check_memory, "encoders.text", "a/b", needed)
    assert list(check(4_000_000_000)) == []
    (note,) = check(3_500_000_000)
    assert "takes about 4.0 GB of a device's 3.5 GB" in note and "if that is too much, lower encoders.text" in note
    with pytest.raises(DataError, match=r"its weights 2\.0 GB: lower encoders\.text\.batch_tokens"):
        list(check(2_900_000_000))
    with pytest.raises(DataError, match=r"take a smaller checkpoint \(encoders=base\), or leave it out"):
        list(check(1_900_000_000))


@pytest.mark.parametrize(("side", "patch", "expected"), [(224, 14, 160), (224, 32, 160), (336, 14, 71), (384, 14, 56)])
def test_fewer_images_of_more_patches_at_once(side, patch, expected):
    for config in (SimpleNamespace(patch_size=patch), SimpleNamespace(vision_config=SimpleNamespace(patch_size=patch))):
        assert images_at_once(config, side, 160) == expected
    assert images_at_once(config, 100 * side, 1) == 1
