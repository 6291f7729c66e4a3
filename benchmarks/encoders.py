"""The encoders against transformers' torch models: CLIP, HuBERT and a decoder.

    python -m benchmarks.encoders [--repeats=3] [--encoder=clip --encoder=hubert --encoder=decoder]

Peer: transformers' torch models; HuBERT's with fused attention, one clip at a time as the challenge's baseline does,
and all clips as one padded batch. Equal work: the same random weights and inputs, float32, all cores, calls in turn;
the features must agree before anything is timed (but for the padded batch, whose normalisation counts the padding).
CLIP ViT-B/16 takes 8 frames, HuBERT-base 18 clips of 1 to 10 s, a LLaMA-like decoder 8 texts. "of peak": FLOPs of the
matrix products over the rate of a plain matrix product measured in turn with them.
"""

import tempfile
from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from absl import app, flags

from benchmarks.timing import against_peak, ratio, show
from benchmarks.work import decoder_flops, hubert_flops, vit_flops
from mer_jax.models import CLIP, Baichuan, Hubert

REPEATS = flags.DEFINE_integer("repeats", 3, "Measured rounds.")
NAMES = ("clip", "hubert", "decoder")
ENCODERS = flags.DEFINE_multi_enum("encoder", list(NAMES), NAMES, "What is measured.")

FRAMES = 8  # of CLIP
CLIPS = 18  # of HuBERT
BUCKETS = (1.5, 2, 3, 4, 5, 6, 7, 8.5, 10)  # s


def ported(port: Any, model: Any) -> Any:
    """Our module with a torch model's weights."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return port.from_pretrained(folder, jnp.float32)


def row(
    name: str, seconds: dict[str, list[float]], peer: str, work: float, unit: str, flops: float, peak: float
) -> dict[str, Any]:
    """One comparison. work: in `unit`s, of one call; flops: its matrix products'."""
    return {
        "encoder": name,
        "peer": peer,
        f"ours, {unit}/s": round(work / median(seconds["ours"]), 2),
        f"peer, {unit}/s": round(work / median(seconds[peer]), 2),
        **ratio(seconds["ours"], seconds[peer]),
        "of peak": f"{flops / median(seconds['ours']) / peak:.0%}",
        "peak, GFLOP/s": round(peak / 1e9),
    }


def clip() -> list[dict[str, Any]]:
    """ViT-B/16 at 224 px."""
    text = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 100, "eos_token_id": 99}
    config: Any = transformers.CLIPConfig(vision_config={"patch_size": 16}, text_config=text)
    model = transformers.CLIPModel(config).eval().requires_grad_(False)
    ours = ported(CLIP, model)
    pixels = np.random.default_rng(0).standard_normal((FRAMES, 224, 224, 3), np.float32)
    tensor, array = torch.tensor(pixels.transpose(0, 3, 1, 2)).contiguous(), jnp.asarray(pixels)
    encode = jax.jit(CLIP.encode_image)
    rivals = {"ours": lambda: encode(ours, array), "torch": lambda: model.get_image_features(tensor).pooler_output}
    check(rivals)
    seconds, peak = against_peak(rivals, REPEATS.value)
    flops = FRAMES * vit_flops(config)
    return [row("CLIP ViT-B/16", seconds, "torch", FRAMES, "frames", flops, peak)]


def hubert() -> list[dict[str, Any]]:
    """HuBERT-base; ours in length buckets, the clips of one as a batch."""
    model = transformers.HubertModel(transformers.HubertConfig()).eval().requires_grad_(False)
    model.set_attn_implementation("sdpa")
    ours = ported(Hubert, model)
    rng = np.random.default_rng(0)
    lengths = np.linspace(1, 10, CLIPS) * 16_000
    clips = [rng.standard_normal(int(length), np.float32) for length in rng.permutation(lengths)]
    mean = jax.jit(lambda model, x, n: (lambda out: masked_mean(out.hidden_states[-1], out.lengths))(model(x, n, 1)))

    def in_buckets() -> Any:
        batches = []
        for shorter, bucket in zip((0, *BUCKETS), BUCKETS, strict=False):
            chosen = [i for i, clip in enumerate(clips) if shorter < len(clip) / 16_000 <= bucket]
            waveform = np.stack([np.pad(clips[i], (0, int(bucket * 16_000) - len(clips[i]))) for i in chosen])
            batches.append((chosen, mean(ours, waveform, np.array([len(clips[i]) for i in chosen], np.int32))))
        order = np.argsort(np.concatenate([chosen for chosen, _ in batches]))
        return jnp.concatenate([features for _, features in batches])[order]

    def one_at_a_time() -> Any:
        return torch.cat([model(torch.tensor(clip)[None]).last_hidden_state.mean(1) for clip in clips])

    def padded() -> Any:
        longest = max(map(len, clips))
        waveform = torch.tensor(np.stack([np.pad(clip, (0, longest - len(clip))) for clip in clips]))
        mask = torch.arange(longest) < torch.tensor([len(clip) for clip in clips])[:, None]
        return model(waveform, attention_mask=mask.long()).last_hidden_state.sum(1)

    rivals: dict[str, Callable[[], Any]] = {"ours": in_buckets, "one clip at a time": one_at_a_time}
    check(rivals)
    rivals["one padded batch"] = padded  # whose normalisation over time counts the padding: not the same numbers
    seconds, peak = against_peak(rivals, REPEATS.value)
    work = sum(map(len, clips)) / 16_000
    flops = sum(hubert_flops(model.config, len(clip)) for clip in clips)
    return [row("HuBERT-base", seconds, peer, work, "audio s", flops, peak) for peer in list(rivals)[1:]]


def masked_mean(x: jax.Array, lengths: jax.Array) -> jax.Array:
    mask = (jnp.arange(x.shape[1]) < lengths[:, None])[..., None]
    return jnp.sum(x, axis=1, where=mask) / lengths[:, None]


def decoder() -> list[dict[str, Any]]:
    """Four layers of a LLaMA-like decoder, 1024 wide, on 8 texts of 128 tokens."""
    config = transformers.LlamaConfig(
        vocab_size=1000, hidden_size=1024, intermediate_size=2752, num_hidden_layers=4, num_attention_heads=16
    )
    model = transformers.LlamaModel(config).eval().requires_grad_(False)
    ours = ported(Baichuan, model)
    tokens = np.random.default_rng(0).integers(0, 1000, (8, 128))
    encode = jax.jit(lambda model, tokens, lengths: model(tokens, lengths, 1).hidden_states[-1])
    array, lengths, tensor = jnp.asarray(tokens, jnp.int32), jnp.full(8, 128, jnp.int32), torch.tensor(tokens)
    rivals = {
        "ours": lambda: encode(ours, array, lengths),
        "torch": lambda: model(tensor, use_cache=False).last_hidden_state,
    }
    check(rivals)
    seconds, peak = against_peak(rivals, REPEATS.value)
    flops = len(tokens) * decoder_flops(config, tokens.shape[1])
    return [row("decoder", seconds, "torch", tokens.size, "tokens", flops, peak)]


def check(rivals: dict[str, Callable[[], Any]]) -> None:
    """Both must have computed the same, or the comparison means nothing."""
    ours, theirs = (np.asarray(call()) for call in rivals.values())
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max(), "the models disagree"


def main(_: list[str]) -> None:
    """The benchmark."""
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    known = {"clip": clip, "hubert": hubert, "decoder": decoder}
    for name in ENCODERS.value:
        show(known[name](), threads=torch.get_num_threads())


if __name__ == "__main__":
    app.run(main)
