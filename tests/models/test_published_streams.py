"""The published checkpoints of further streams, tiny: what is fetched of each, and each whole model as transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import (
    BertForMaskedLM,
    Dinov2Model,
    RobertaForMaskedLM,
    SiglipModel,
    WavLMModel,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from mer_jax.checkpoints.hub import plan
from mer_jax.features.checkpoint_folders import frames_as_trained, sound_as_trained
from mer_jax.features.networks import checkpoint_of
from mer_jax.text.tokenizer import Tokenizer
from tests.hub import Hub
from tests.models.test_hubert import relative_error
from tests.models.test_published import stored
from tests.published_streams import STREAMS

WAVLM, WHISPER, DINOV2, SIGLIP, MACBERT, BERT, ROBERTA = STREAMS
TENSORS = {WAVLM: 488, WHISPER: 1259, DINOV2: 439, SIGLIP: 888, MACBERT: 400, BERT: 207, ROBERTA: 203}
MEDIA = {"config.json", "preprocessor_config.json"}
WORDS = {"config.json", "tokenizer_config.json", "tokenizer.json"}
FILES = {
    WAVLM: MEDIA | {"pytorch_model.bin"},
    WHISPER: MEDIA | {"generation_config.json", "tokenizer_config.json", "model.safetensors"},
    DINOV2: MEDIA | {"model.safetensors"},
    SIGLIP: MEDIA | {"tokenizer_config.json", "model.safetensors"},
    MACBERT: WORDS | {"added_tokens.json", "special_tokens_map.json", "vocab.txt", "pytorch_model.bin"},
    BERT: {"config.json", "tokenizer_config.json", "vocab.txt", "model.safetensors"},
    ROBERTA: WORDS | {"merges.txt", "vocab.json", "model.safetensors"},
}
"""What is fetched of each."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    for name, make in STREAMS.items():
        make(folder / name)
    return folder


def test_of_each_repository_what_is_read_is_fetched(models, monkeypatch, tmp_path):
    with Hub(models) as hub:
        hub.serve_this_process(monkeypatch, tmp_path)
        assert {each.source: {name for name, _ in each.files} for each in plan(STREAMS)} == FILES


def torch_of(model_class, folder):
    """Of a task model, all of which its class need not have."""
    return model_class.from_pretrained(folder, dtype="float32").eval().requires_grad_(False)


def last_four(out):
    import torch

    return torch.stack([*out.hidden_states[-4:-1], out.last_hidden_state])


def ours(models, source, modality):
    assert len(stored(models / source)) == TENSORS[source]
    return checkpoint_of(str(models / source), modality).network.from_pretrained(models / source, jnp.float32)


def test_wavlm(models, oracle):
    sound = np.random.default_rng(0).standard_normal((2, 8000)).astype(np.float32)

    def compute():
        import torch

        model = torch_of(WavLMModel, models / WAVLM)
        return {"states": last_four(model(torch.tensor(sound), output_hidden_states=True))}

    out = jax.jit(lambda model: model(sound, np.array([8000, 8000])))(ours(models, WAVLM, "speech"))
    assert sound_as_trained(str(models / WAVLM), 16_000, 4) == (True, None)
    for state, expected in zip(out.hidden_states, oracle(f"published/{WAVLM}", compute)["states"], strict=True):
        assert relative_error(state, expected) < 1e-5


def test_whisper(models, oracle):
    sound = np.random.default_rng(0).standard_normal(8001).astype(np.float32) / 10

    def compute():
        extractor = WhisperFeatureExtractor.from_pretrained(models / WHISPER)
        features = extractor(sound, sampling_rate=16_000, return_tensors="pt")["input_features"]
        encoder = torch_of(WhisperForConditionalGeneration, models / WHISPER).model.encoder
        return {"states": last_four(encoder(features, output_hidden_states=True))[:, :, :26]}

    out = jax.jit(lambda model: model(sound[None], np.array([8001])))(ours(models, WHISPER, "speech"))
    assert sound_as_trained(str(models / WHISPER), 16_000, 4) == (False, 30.0)
    assert out.lengths.tolist() == [26]
    for state, expected in zip(out.hidden_states, oracle(f"published/{WHISPER}", compute)["states"], strict=True):
        assert relative_error(state[:, :26], expected) < 1e-4


@pytest.mark.parametrize(("source", "side"), [(DINOV2, 42), (SIGLIP, 47)])
def test_images(models, source, side, oracle):
    pixels = np.random.default_rng(0).standard_normal((2, side, side, 3)).astype(np.float32)

    def compute():
        import torch

        images = torch.tensor(pixels.transpose(0, 3, 1, 2))
        if source == DINOV2:
            return {"images": torch_of(Dinov2Model, models / source)(images).pooler_output}
        return {"images": torch_of(SiglipModel, models / source).get_image_features(images).pooler_output}

    size, preprocessing = frames_as_trained(str(models / source), "image")
    assert size == side and preprocessing.resample == {DINOV2: 3, SIGLIP: 2}[source]
    images = jax.jit(lambda model: model.encode_image(pixels))(ours(models, source, "image"))
    assert relative_error(images, oracle(f"published/{source}", compute)["images"]) < 1e-5


@pytest.mark.parametrize("source", [MACBERT, BERT, ROBERTA])
def test_texts(models, source, oracle):
    tokenizer = Tokenizer(models / source)
    (tokens,) = tokenizer.encode(["我走了" if source != ROBERTA else "I left"])
    ids = np.array([[*tokenizer.prefix, *tokens, *tokenizer.suffix]])
    assert ids.shape == (1, 8 if source == ROBERTA else 5)

    def compute():
        import torch

        whole = torch_of(RobertaForMaskedLM if source == ROBERTA else BertForMaskedLM, models / source)
        model = whole.roberta if source == ROBERTA else whole.bert
        return {"states": last_four(model(torch.tensor(ids), output_hidden_states=True))}

    out = jax.jit(lambda model: model(ids, np.array([ids.shape[1]])))(ours(models, source, "text"))
    for state, expected in zip(out.hidden_states, oracle(f"published/{source}", compute)["states"], strict=True):
        assert relative_error(state, expected) < 1e-5
