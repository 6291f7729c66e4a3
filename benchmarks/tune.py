"""One training step of EmoVCLIP against the same step in torch: transformers' CLIP with the prompts inserted.

    python -m benchmarks.tune [--clips=4] [--frames=16] [--micro_batch=1] [--repeats=5]

Same random ViT-B/32 weights, same prompts (4 in each of 12 layers of both towers), same pixels, float32, AdamW on the
prompts alone, as many threads as there are cores; the steps of the two alternate. Both start from the same loss and
reach the same one after a step, which is checked. The limit is the step's matrix products at the rate of a
large matrix product in the same process.
"""

import argparse
import tempfile
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from ml_collections import ConfigDict
from transformers import CLIPConfig, CLIPModel

from benchmarks.timing import against_peak, ratio, show
from mer_jax.models.clip import CLIP
from mer_jax.models.emovclip import EmoVCLIP
from mer_jax.tuning.batches import Batch
from mer_jax.tuning.trainer import Tuner
from tests.models import torch_emovclip

CLASSES = ("neutral", "anger", "happiness", "sadness", "worry", "surprise")
SETTINGS = {
    "mode": "all_labelled",
    "epochs": 100,
    "warmup_epochs": 0,
    "learning_rate": 4e-4,
    "weight_decay": 1e-3,
    "label_smoothing": 0.1,
}


def tokenizer(texts: list[str]) -> dict[str, list[list[int]]]:
    """A token per letter: which words they are does not matter for time."""
    return {"input_ids": [[49406, *(320 + ord(letter) for letter in text), 49407] for text in texts]}


def step_flops(
    config: CLIPConfig, images: int, texts: int, length: int, depth: int = 12, num_prompts: int = 4
) -> float:
    """Of the matrix products that a step needs: forward, and backward to the inputs alone.

    Not needed: more than keys and values of prompts that the next layer replaces; more than the pooled token of the
    last layer; gradients of anything before the first layer's prompts. length: of the texts, without prompts.
    """
    vision: Any = config.vision_config
    text: Any = config.text_config
    patches = (vision.image_size // vision.patch_size) ** 2
    total = images * 2 * patches * 3 * vision.patch_size**2 * vision.hidden_size  # forward only
    for tower, sequences, tokens in ((vision, images, 1 + patches), (text, texts, length)):
        width, inner, both = tower.hidden_size, tower.intermediate_size, tokens + num_prompts
        for layer in range(tower.num_hidden_layers):
            own = both if layer >= depth - 1 else tokens  # with keys and values of their own
            queries = 1 if layer == tower.num_hidden_layers - 1 else own
            forward = 2 * queries * (2 * width**2 + 2 * width * inner) + 2 * own * 2 * width**2
            backward = forward if layer else 2 * queries * (width**2 + 2 * width * inner)
            attended = 4 * queries * both * width
            total += sequences * (forward + backward + (3 if layer else 2.5) * attended)
    return float(total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--micro_batch", type=int, default=1, help="clips of ours at a time; 0: all, as torch does")
    flags = parser.parse_args()

    torch.manual_seed(0)
    peer = CLIPModel(CLIPConfig()).eval().requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        clip = CLIP.from_pretrained(folder, dtype=jnp.float32)
    build = lambda key: EmoVCLIP(clip, CLASSES, tokenizer=tokenizer, rngs=nnx.Rngs(key))  # noqa: E731
    settings = ConfigDict({**SETTINGS, "micro_batch": flags.micro_batch})
    tuner = Tuner(build(jax.random.key(0)), settings, num_folds=1, seed=0, steps_per_epoch=1)
    state = tuner.init(build)

    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(flags.clips, flags.frames, 224, 224, 3)).astype(np.float32)
    labels = rng.integers(len(CLASSES), size=flags.clips)
    batch = Batch(
        jnp.asarray(pixels[None]),
        jnp.ones((1, flags.clips, flags.frames), bool),
        jnp.asarray(labels[None]),
        jnp.ones((1, flags.clips), bool),
    )
    flips = jnp.zeros((1, flags.clips), bool)
    run = (state.prompts, state.optimizer, tuner.train_folds)

    def our_step() -> float:
        nonlocal run
        prompts, optimizer, loss = tuner.step(run, batch, flips, tuner.backbone)
        run = (prompts, optimizer, tuner.train_folds)
        return float(loss[0])

    prompts = [
        torch.tensor(np.asarray(state.prompts[name][...][0]), requires_grad=True)
        for name in ("vision_prompts", "text_prompts")
    ]
    optimizer = torch.optim.AdamW(prompts, lr=4e-4, betas=(0.9, 0.98), weight_decay=1e-3)
    ids = tokenizer([f"{name}." for name in CLASSES])["input_ids"]

    def their_step() -> float:
        optimizer.zero_grad()
        logits = torch_emovclip.logits(peer, pixels, ids, *prompts)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        return loss.item()

    for _ in range(2):
        ours, theirs = our_step(), their_step()
        assert abs(ours - theirs) < 1e-3 * abs(theirs), f"the two differ: loss {ours} and {theirs}"
    seconds, peak = against_peak({"ours": our_step, "torch": their_step}, flags.repeats)
    flops = step_flops(peer.config, flags.clips * flags.frames, len(CLASSES), max(map(len, ids)))
    faster, low, high = ratio(seconds, "ours", "torch")
    row = {
        "clips": flags.clips,
        "frames": flags.frames,
        "ours, s a step": round(median(seconds["ours"]), 2),
        "torch, s a step": round(median(seconds["torch"]), 2),
        "torch / ours": f"{faster:.2f} ({low:.2f} to {high:.2f})",
        "matrix products alone, s": round(flops / peak, 2),
        "GFLOP": round(flops / 1e9),
        "peak, GFLOP/s": round(peak / 1e9),
    }
    show([row], benchmark="tune")


if __name__ == "__main__":
    main()
