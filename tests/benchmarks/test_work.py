"""FLOP counts: by hand on small numbers, and against the products that the models' programs hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from transformers import CLIPConfig, HubertConfig

from benchmarks import work
from mer_jax.models import CLIP, AttentionFusion, Baichuan, EmoVCLIP, Hubert
from mer_jax.models.baichuan_config import BaichuanConfig
from mer_jax.models.emovclip import Prompt
from mer_jax.models.preprocess import clip_pixels
from tests.product_flops import product_flops

TOWER = {"hidden_size": 8, "intermediate_size": 20, "num_hidden_layers": 5, "num_attention_heads": 2}
SMALL_CLIP = CLIPConfig(
    vision_config=TOWER | {"image_size": 12, "patch_size": 4},
    text_config=TOWER | {"vocab_size": 50, "max_position_embeddings": 16, "eos_token_id": 49},
    projection_dim=6,
)


def test_a_layer_by_hand():
    # Three tokens 2 wide, 5 inside. Query, key, value, output: 4 maps of 3 x 2 x 2; feed-forward: 2 of 3 x 2 x 5;
    # logits and their sum over values: 2 of 3 x 3 x 2. Each product is a multiplication and an addition.
    assert work.layer_flops(3, 2, 5) == 2 * (4 * 12 + 2 * 30 + 2 * 18)
    assert work.layer_flops(3, 2, 5, matrices=3) == 2 * (4 * 12 + 3 * 30 + 2 * 18)
    # One query: keys and values of all three tokens, all else of one.
    assert work.layer_flops(3, 2, 5, queries=1) == 2 * (2 * 12 + 2 * 4 + 2 * 10 + 2 * 6)


def test_an_image_by_hand():
    assert work.vit_tokens(SMALL_CLIP) == 10  # 3 x 3 patches and the class token
    assert work.vit_tokens(SMALL_CLIP, num_prompts=2) == 12
    layers = 4 * 2 * (4 * 640 + 2 * 1600 + 2 * 800)  # 10 x 8 x 8, 10 x 8 x 20, 10 x 10 x 8
    last = 2 * (2 * 640 + 2 * 64 + 2 * 160 + 2 * 80)
    patches, projection = 2 * 9 * 48 * 8, 2 * 8 * 6
    assert work.patch_flops(SMALL_CLIP) == patches
    assert work.vit_flops(SMALL_CLIP) == patches + layers + last + projection


def test_sizes_are_those_of_the_paper():
    assert work.DIMS == {"speech": 2048, "image": 1536, "text": 10240, "video": 768}


def test_an_image_as_traced():
    model = nnx.eval_shape(lambda: CLIP(SMALL_CLIP, rngs=nnx.Rngs(0)))
    pixels = jax.ShapeDtypeStruct((3, 12, 12, 3), jnp.float32)
    assert product_flops(CLIP.encode_image, model, pixels) == 3 * work.vit_flops(SMALL_CLIP)


def test_resizing_as_traced():
    frames, weights = jnp.zeros((2, 3, 20, 20, 3), jnp.uint8), jnp.zeros((2, 12, 20))
    assert product_flops(clip_pixels, frames, weights, weights) == 6 * work.resize_flops(20, 12)


def test_a_sound_as_traced():
    config = HubertConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        conv_dim=(4, 6, 10),
        conv_kernel=(10, 3, 2),
        conv_stride=(5, 2, 2),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
    )
    model = nnx.eval_shape(lambda: Hubert(config, rngs=nnx.Rngs(0)))
    arguments = (model, jax.ShapeDtypeStruct((2, 700), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.int32))
    assert product_flops(lambda model, *x: model(*x, 1), *arguments) == 2 * work.hubert_flops(config, 700)


def test_a_text_as_traced():
    config = BaichuanConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2
    )
    model = nnx.eval_shape(lambda: Baichuan(config, rngs=nnx.Rngs(0)))
    arguments = (model, jax.ShapeDtypeStruct((2, 7), jnp.int32), jax.ShapeDtypeStruct((2,), jnp.int32))
    assert product_flops(lambda model, *x: model(*x, 1), *arguments) == 2 * work.decoder_flops(config, 7)


def test_prompts_by_hand():
    tower = CLIPConfig(vision_config=TOWER | {"num_hidden_layers": 2}).vision_config
    # Three tokens and two prompts that the second layer replaces: in the first layer they are keys and values alone,
    # the same for all sequences. Maps of 3 x 8 x 8 and 3 x 8 x 20, products of 3 x 5 x 8 in attention. Backward goes
    # from the output through the feed-forward network and the output's map to attention; there it takes the gradients
    # of values, of logits, and of keys.
    first = 2 * (4 * 192 + 2 * 480 + 2 * 120) + 2 * (2 * 480 + 192 + 3 * 120)
    # In the last layer all five are tokens, of which one is needed: its query, output and feed-forward network, five
    # keys and values; backward all of these once, and attention's two products twice.
    last = 2 * (2 * (2 * 64 + 2 * 160 + 2 * 320) + 3 * 2 * 40)
    assert work.tuned_tower_flops(tower, 3, depth=2, num_prompts=2) == first + last


def test_a_step_on_prompts_as_traced():
    """JAX computes a little more than a step needs, such as gradients of the first layer's queries."""
    images, texts, depth, num_prompts = 40, 2, (3, 2), (2, 1)
    model = EmoVCLIP(
        CLIP(SMALL_CLIP, rngs=nnx.Rngs(0)),
        "ab",
        num_prompts,
        depth,
        tokenizer=lambda texts: {"input_ids": [[0, 1, 2, 49]] * len(texts)},
        rngs=nnx.Rngs(0),
    )
    graphdef, prompts, backbone = nnx.split(model, Prompt, ...)

    def step(prompts, frames):
        return jax.grad(lambda prompts: nnx.merge(graphdef, prompts, backbone)(frames).sum())(prompts)

    traced = product_flops(step, prompts, jax.ShapeDtypeStruct((1, images, 12, 12, 3), jnp.float32))
    needed = work.prompt_step_flops(SMALL_CLIP, images, texts, 4, depth, num_prompts)
    assert 1 <= traced / needed < 1.06


def test_fusion_by_hand():
    # Two modalities, 3 and 5 wide; 2 hidden. Encoders and scorer: first layers 6, 10 and 8, then twice 4 each.
    # Attention 2 x 2, classifier 2 x 4.
    assert work.fusion_flops({"speech": 3, "text": 5}, 2, 4) == 2 * (6 + 10 + 8 + 3 * 2 * 4 + 4 + 8)
    # Backward: as much again to the weights, and to the inputs of all but the embeddings' layers.
    assert work.fusion_step_flops({"speech": 3, "text": 5}, 2, 4) == 2 * (3 * 60 - 16)


def test_fusion_as_traced():
    dims = {"speech": 12, "text": 30}
    model = AttentionFusion(dims, 8, 4, rngs=nnx.Rngs(0))
    embeddings = {name: np.zeros((16, width), np.float32) for name, width in dims.items()}
    weighted_sum = 2 * 8 * len(dims)  # of the modalities, too little to be counted
    traced = product_flops(lambda model, x: model(x).logits, model, embeddings)
    assert traced == pytest.approx(16 * (work.fusion_flops(dims, 8, 4) + weighted_sum))
