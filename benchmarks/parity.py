"""How exact the encoders are at the paper's sizes.

    python -m benchmarks.parity [--only=whisper]

Peer: transformers' torch models in float32. Equal work: the same random weights and inputs. "error": the largest
difference in float32, over the largest value of torch's. "cosine": between ours in bfloat16 and in float32, the lowest
of all features (one of each image, text or frame).
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from absl import app, flags

from benchmarks.timing import show
from benchmarks.work import (
    CLIP_L14,
    DINOV2_LARGE,
    DINOV2_SIDE,
    HUBERT_LARGE,
    MACBERT_LARGE,
    SIGLIP2_SO400M,
    WAVLM_LARGE,
    WHISPER_LARGE,
)
from mer_jax.models import CLIP, Baichuan, Bert, Dinov2, Hubert, Siglip, WavLM, Whisper

ONLY = flags.DEFINE_multi_string("only", [], "Functions below that are compared; all unless named.")

SECONDS = 2  # of sound
TOKENS = 64
LLAMA = transformers.LlamaConfig(num_hidden_layers=2, vocab_size=1000)  # 7B's layers, fewer of them


def compare(name: str, port: Any, folder: Path, encode: Callable[[Any], jax.Array], theirs: Any) -> dict[str, Any]:
    """One row. encode: our module -> features [..., D]; theirs: torch's."""
    expected = theirs.numpy()
    exact, half = (
        np.asarray(jax.jit(encode)(port.from_pretrained(folder, dtype)), np.float32)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert exact.shape == expected.shape, (exact.shape, expected.shape)
    cosine = (exact * half).sum(-1) / np.linalg.norm(exact, axis=-1) / np.linalg.norm(half, axis=-1)
    return {
        "features": name,
        "shape": " x ".join(map(str, exact.shape)),
        "error": f"{np.abs(exact - expected).max() / np.abs(expected).max():.1e}",
        "cosine": f"{cosine.min():.5f}",
    }


def clip(folder: Path, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Two images and two texts."""
    model = transformers.CLIPModel(CLIP_L14).eval()
    model.save_pretrained(folder)
    pixels = rng.standard_normal((2, 224, 224, 3), np.float32)
    tokens = rng.integers(1, 49_000, (2, 77))
    tokens[:, -1] = CLIP_L14.text_config.eos_token_id
    images = model.get_image_features(torch.tensor(pixels.transpose(0, 3, 1, 2))).pooler_output
    texts = model.get_text_features(torch.tensor(tokens)).pooler_output
    del model
    return [
        compare("CLIP L/14, images", CLIP, folder, lambda model: model.encode_image(pixels), images),
        compare("CLIP L/14, texts", CLIP, folder, lambda model: model.encode_text(jnp.asarray(tokens)), texts),
    ]


def last_four(out: Any) -> Any:
    """Sum of a torch model's last four states; since transformers 5 only `last_hidden_state` has passed the norm."""
    return torch.stack([*out.hidden_states[-4:-1], out.last_hidden_state]).sum(0)


def dinov2(folder: Path, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Two images."""
    model = transformers.Dinov2Model(DINOV2_LARGE).eval()
    model.save_pretrained(folder)
    pixels = rng.standard_normal((2, DINOV2_SIDE, DINOV2_SIDE, 3), np.float32)
    theirs = model(torch.tensor(pixels.transpose(0, 3, 1, 2))).pooler_output
    del model
    return [compare("DINOv2-large", Dinov2, folder, lambda model: model.encode_image(pixels), theirs)]


def siglip(folder: Path, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Two images; of the text tower one small layer."""
    text = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 100}
    config = transformers.SiglipConfig(vision_config=SIGLIP2_SO400M.vision_config.to_dict(), text_config=text)
    model = transformers.SiglipModel(config).eval()
    model.save_pretrained(folder)
    side = SIGLIP2_SO400M.vision_config.image_size
    pixels = rng.standard_normal((2, side, side, 3), np.float32)
    theirs = model.get_image_features(torch.tensor(pixels.transpose(0, 3, 1, 2))).pooler_output
    del model
    return [compare("SigLIP 2 so400m", Siglip, folder, lambda model: model.encode_image(pixels), theirs)]


def hubert(folder: Path, rng: np.random.Generator) -> list[dict[str, Any]]:
    """HuBERT-large, as `speech`."""
    return speech("HuBERT-large", Hubert, transformers.HubertModel(HUBERT_LARGE), folder, rng)


def wavlm(folder: Path, rng: np.random.Generator) -> list[dict[str, Any]]:
    """WavLM-large, as `speech`."""
    return speech("WavLM-large", WavLM, transformers.WavLMModel(WAVLM_LARGE), folder, rng)


def whisper(folder: Path, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Every frame of two seconds of sound, of 30 with silence; of the decoder one layer."""
    config = transformers.WhisperConfig.from_dict(
        WHISPER_LARGE.to_dict() | {"decoder_layers": 1, "decoder_attention_heads": 20}
    )
    model = transformers.WhisperModel(config).eval()
    model.save_pretrained(folder)
    waveform = rng.standard_normal((1, SECONDS * 16_000), np.float32) / 10
    extractor = transformers.WhisperFeatureExtractor(feature_size=config.num_mel_bins)
    inputs = extractor(waveform[0], sampling_rate=16_000, return_tensors="pt")["input_features"]
    frames = waveform.size // 320
    theirs = last_four(model.encoder(inputs, output_hidden_states=True))[:, :frames]
    del model
    lengths = jnp.array([waveform.size], jnp.int32)
    ours = lambda model: model(waveform, lengths).hidden_states.sum(0)[:, :frames]  # noqa: E731
    return [compare("Whisper-large-v3", Whisper, folder, ours, theirs)]


def speech(name: str, port: Any, model: Any, folder: Path, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Every frame's sum of the last four hidden states."""
    model = model.eval()
    model.save_pretrained(folder)
    waveform = rng.standard_normal((1, SECONDS * 16_000), np.float32)
    theirs = last_four(model(torch.tensor(waveform), output_hidden_states=True))
    del model
    lengths = jnp.array([waveform.size], jnp.int32)
    return [compare(name, port, folder, lambda model: model(waveform, lengths).hidden_states.sum(0), theirs)]


def bert(folder: Path, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Every token's sum of the last four hidden states."""
    model = transformers.BertModel(MACBERT_LARGE).eval()
    model.save_pretrained(folder)
    tokens = rng.integers(1, MACBERT_LARGE.vocab_size, (1, TOKENS))
    theirs = last_four(model(torch.tensor(tokens), output_hidden_states=True))
    del model
    lengths = jnp.array([TOKENS], jnp.int32)
    ours = lambda model: model(jnp.asarray(tokens), lengths).hidden_states.sum(0)  # noqa: E731
    return [compare("MacBERT-large", Bert, folder, ours, theirs)]


def decoder(folder: Path, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Every token's sum of the last two hidden states."""
    model = transformers.LlamaModel(LLAMA).eval()
    model.save_pretrained(folder)
    tokens = rng.integers(0, LLAMA.vocab_size, (1, TOKENS))
    out = model(torch.tensor(tokens), output_hidden_states=True, use_cache=False)
    theirs = out.hidden_states[-2] + out.last_hidden_state
    del model
    lengths = jnp.array([TOKENS], jnp.int32)
    ours = lambda model: model(jnp.asarray(tokens), lengths, 2).hidden_states.sum(0)  # noqa: E731
    return [compare("LLaMA, two layers of 7B", Baichuan, folder, ours, theirs)]


def main(_: list[str]) -> None:
    """The benchmark."""
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    rows = []
    encoders = (clip, dinov2, siglip, hubert, wavlm, whisper, bert, decoder)
    for encoder in [encoder for encoder in encoders if not ONLY.value or encoder.__name__ in ONLY.value]:
        with tempfile.TemporaryDirectory() as folder:
            rows += encoder(Path(folder), np.random.default_rng(0))
    show(rows)


if __name__ == "__main__":
    app.run(main)
