"""The published checkpoints, tiny: each whole model against transformers, or where it has none against the formulas."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from transformers import CLIPModel, HubertModel, Qwen2ForCausalLM

from mer_jax.checkpoints.hub import plan
from mer_jax.checkpoints.huggingface import fetch
from mer_jax.checkpoints.weight_files import tensors_of, weight_files
from mer_jax.models import CLIP, Baichuan, Hubert
from mer_jax.text.tokenizer import Tokenizer, clip_tokenizer
from tests.hub import Hub
from tests.models.test_baichuan import alibi_reference
from tests.oracle import load_torch
from tests.published import publish

CLIPS = ("openai/clip-vit-large-patch14", "openai/clip-vit-base-patch16")
HUBERTS = ("TencentGameMate/chinese-hubert-large", "TencentGameMate/chinese-hubert-base", "facebook/hubert-base-ls960")
BAICHUANS = ("baichuan-inc/Baichuan-13B-Base", "baichuan-inc/Baichuan2-13B-Base")
QWEN = "Qwen/Qwen2.5-1.5B"
SIDES = dict(zip(CLIPS, (42, 48), strict=True))
SHARDS = {"pytorch_model.bin.index.json", *(f"pytorch_model-0000{shard}-of-00003.bin" for shard in (1, 2, 3))}
TOKENS = {"config.json", "generation_config.json", "tokenizer_config.json"}
CLIP_FILES = {"config.json", "merges.txt", "preprocessor_config.json", "special_tokens_map.json", "tokenizer.json"}
CLIP_FILES |= {"tokenizer_config.json", "vocab.json"}
FILES = {
    CLIPS[0]: CLIP_FILES | {"model.safetensors"},
    CLIPS[1]: CLIP_FILES | {"pytorch_model.bin"},
    **{name: {"config.json", "preprocessor_config.json", "pytorch_model.bin"} for name in HUBERTS},
    **{
        name: TOKENS | SHARDS | {"pytorch_model.bin.index.json", "special_tokens_map.json", "tokenizer.model"}
        for name in BAICHUANS
    },
    QWEN: TOKENS | {"merges.txt", "model.safetensors", "tokenizer.json", "vocab.json"},
}
"""What is fetched of each."""

encode_images, encode_texts = jax.jit(CLIP.encode_image), jax.jit(CLIP.encode_text)
encode_sound = jax.jit(Hubert.__call__, static_argnames="keep_layers")
encode_tokens = jax.jit(Baichuan.__call__, static_argnames="keep_layers")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    publish(folder, *FILES)
    return folder


def test_of_each_repository_what_is_read_is_fetched(models, monkeypatch, tmp_path):
    with Hub(models) as hub:
        hub.serve_this_process(monkeypatch, tmp_path)
        plans = {each.source: each for each in plan(FILES)}
        assert {source: {name for name, _ in each.files} for source, each in plans.items()} == FILES
        assert {path.name for path in fetch(QWEN).iterdir()} == FILES[QWEN]


def stored(folder):
    return {header.name: read() for file in weight_files(folder) for header, read in tensors_of(file, ())}


@pytest.mark.parametrize(
    ("source", "tensors"),
    [(CLIPS[0], 592), (CLIPS[1], 400), (HUBERTS[0], 415), (HUBERTS[1], 211), (HUBERTS[2], 211), (QWEN, 338)]
    + [(source, 283) for source in BAICHUANS],
)
def test_names_are_as_published(models, source, tensors):
    names = stored(models / source)
    assert len(names) == tensors
    assert not any("inv_freq" in name for name in names)
    if source in BAICHUANS:
        assert len({re.sub(r"\.\d+\.", ".", name) for name in names}) == 10


def assert_close(actual, expected, tolerance):
    """Relative to the scale of the output."""
    expected = np.asarray(expected, np.float64)
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("source", CLIPS)
def test_clip(models, source, oracle):
    ids = np.array(clip_tokenizer(models / source)(["a face", "a face"])["input_ids"])
    side = SIDES[source]
    pixels = np.random.default_rng(0).standard_normal((2, side, side, 3)).astype(np.float32)

    def compute():
        import torch

        model = load_torch(CLIPModel, models / source)
        images = model.get_image_features(torch.tensor(pixels.transpose(0, 3, 1, 2))).pooler_output
        return {"images": images, "texts": model.get_text_features(torch.tensor(ids)).pooler_output}

    expected = oracle(f"published/{source}", compute)
    ours = CLIP.from_pretrained(models / source, jnp.float32)
    assert_close(encode_images(ours, pixels), expected["images"], 1e-5)
    assert_close(encode_texts(ours, ids.astype(np.int32)), expected["texts"], 1e-5)
    assert stored(models / source)["text_model.embeddings.position_ids"].dtype == np.int64


@pytest.mark.parametrize("source", HUBERTS)
def test_hubert(models, source, oracle):
    sound = np.random.default_rng(0).standard_normal((2, 8000)).astype(np.float32)

    def compute():
        import torch

        out = load_torch(HubertModel, models / source)(torch.tensor(sound), output_hidden_states=True)
        return {"states": torch.stack([*out.hidden_states[-4:-1], out.last_hidden_state])}

    expected = oracle(f"published/{source}", compute)["states"]
    out = encode_sound(Hubert.from_pretrained(models / source), sound, jnp.array([8000, 8000]))
    for ours, theirs in zip(out.hidden_states, expected, strict=True):
        assert_close(ours, theirs, 1e-5)


def test_qwen(models, oracle):
    ids = np.random.default_rng(0).integers(0, 257, (2, 20), dtype=np.int32)

    def compute():
        import torch

        out = load_torch(Qwen2ForCausalLM, models / QWEN)(torch.tensor(ids), output_hidden_states=True)
        return {"states": torch.stack(out.hidden_states[-4:]), "logits": out.logits}

    expected = oracle(f"published/{QWEN}", compute)
    model = Baichuan.from_pretrained(models / QWEN, jnp.float32, lm_head=True)
    out = encode_tokens(model, ids, jnp.array([20, 20]))
    for ours, theirs in zip(out.hidden_states, expected["states"], strict=True):
        assert_close(ours, theirs, 1e-5)
    assert_close(model.logits(out.hidden_states[-1]), expected["logits"], 1e-5)
    assert Tokenizer(models / QWEN).encode(["hi"]) != [[]]


@pytest.mark.parametrize("source", BAICHUANS)
def test_baichuan(models, source):
    tensors = stored(models / source)
    ids = np.array(Tokenizer(models / source).encode(["a face that smiles"]), np.int32)
    assert ids.size > 3
    model = Baichuan.from_pretrained(models / source, jnp.float32, lm_head=True)
    out = encode_tokens(model, ids, jnp.array([ids.shape[1]]))
    expected = alibi_reference(tensors, ids[0], 40, 5, [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2])
    for ours, theirs in zip(out.hidden_states[:, 0], expected[-4:], strict=True):
        assert_close(ours, theirs, 1e-5)
    head = tensors["lm_head.weight"].astype(np.float64)
    if source == BAICHUANS[1]:
        head /= np.linalg.norm(head, axis=1, keepdims=True)
    assert_close(model.logits(out.hidden_states[-1])[0], expected[-1] @ head.T, 1e-5)


def test_the_numbers_are_the_files(models):
    """A maker and its reader could be wrong together; safetensors and torch read some of them by themselves."""
    tensors = stored(models / QWEN)
    for name, tensor in safetensors.numpy.load_file(models / QWEN / "model.safetensors").items():
        np.testing.assert_array_equal(tensors[name], tensor)
    torch = pytest.importorskip("torch")
    for source in (*HUBERTS, *BAICHUANS):
        ours = stored(models / source)
        for file in weight_files(models / source):
            for name, tensor in torch.load(file, weights_only=True, mmap=False).items():
                np.testing.assert_array_equal(ours[name].astype(np.float32), tensor.float().numpy())
