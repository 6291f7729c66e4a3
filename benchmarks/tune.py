"""One training step of EmoVCLIP against the same step in torch.

    python -m benchmarks.tune [--clips=4] [--frames=16] [--micro_batch=1] [--repeats=5]

Peer: transformers' CLIP with the prompts inserted, in torch. Equal work: the same random ViT-B/32 weights, prompts (4
in each of 12 layers of both towers) and pixels, float32, AdamW on the prompts alone, as many threads as there are
cores; the steps of the two alternate. Both start from the same loss and reach the same one after a step, which is
checked. The limit is the step's matrix products at the rate of a large matrix product in the same process.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
import torch
from absl import app, flags
from flax import nnx
from transformers import CLIPConfig, CLIPModel

from benchmarks.accelerator.sizes import CLASS_NAMES, letters
from benchmarks.timing import against_peak, ratio, show
from benchmarks.work import prompt_step_flops
from mer_jax.models.clip import CLIP
from mer_jax.models.emovclip import EmoVCLIP
from mer_jax.tuning.batches import Batch
from mer_jax.tuning.trainer import Tuner
from mer_jax.tuning.tune_settings import TuneSettings
from tests.models import torch_emovclip

CLIPS = flags.DEFINE_integer("clips", 4, "Clips in a step.")
FRAMES = flags.DEFINE_integer("frames", 16, "Frames of a clip.")
MICRO_BATCH = flags.DEFINE_integer("micro_batch", 1, "Clips of ours at a time; 0: all, as torch does.")
REPEATS = flags.DEFINE_integer("repeats", 5, "Measured steps of either.")
SETTINGS = TuneSettings(mode="all_labelled", epochs=100, warmup_epochs=0)


def our_step(peer: CLIPModel, pixels: np.ndarray, labels: np.ndarray) -> tuple[Callable[[], float], list[np.ndarray]]:
    """A step that goes on from the last and returns its loss, on the peer's weights; and the prompts it starts from."""
    with tempfile.TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        clip = CLIP.from_pretrained(folder, dtype=jnp.float32)

    def build(key: jax.Array) -> EmoVCLIP:
        return EmoVCLIP(clip, CLASS_NAMES, tokenizer=letters, rngs=nnx.Rngs(key))

    settings = replace(SETTINGS, micro_batch=MICRO_BATCH.value)
    tuner = Tuner(build(jax.random.key(0)), settings, num_folds=1, seed=0, steps_per_epoch=1)
    state = tuner.init(build)
    count, frames = pixels.shape[:2]
    mask, real = jnp.ones((1, count, frames), bool), jnp.ones((1, count), bool)
    batch = Batch(jnp.asarray(pixels[None]), mask, jnp.asarray(labels[None]), real)
    prompts, optimizer = state.prompts, state.optimizer

    def step() -> float:
        nonlocal prompts, optimizer
        run = (prompts, optimizer, tuner.train_folds)
        prompts, optimizer, loss = tuner.step(run, batch, jnp.zeros((1, count), bool), tuner.backbone)
        return float(loss[0])

    return step, [np.array(prompts[name][...][0]) for name in ("vision_prompts", "text_prompts")]


def peers_step(
    peer: CLIPModel, pixels: np.ndarray, labels: np.ndarray, ids: list[list[int]], start: list[np.ndarray]
) -> Callable[[], float]:
    """The same in torch, from the same prompts."""
    prompts = [torch.tensor(prompt, requires_grad=True) for prompt in start]
    rate, decay = SETTINGS.learning_rate, SETTINGS.weight_decay
    optimizer = torch.optim.AdamW(prompts, lr=rate, betas=(0.9, 0.98), weight_decay=decay)
    classes, smoothing = torch.from_numpy(labels), SETTINGS.label_smoothing

    def step() -> float:
        optimizer.zero_grad()
        logits = torch_emovclip.logits(peer, pixels, ids, *prompts)
        loss = torch.nn.functional.cross_entropy(logits, classes, label_smoothing=smoothing)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main(_: list[str]) -> None:
    """The benchmark."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(CLIPS.value, FRAMES.value, 224, 224, 3)).astype(np.float32)
    labels = rng.integers(len(CLASS_NAMES), size=CLIPS.value)
    peer = CLIPModel(CLIPConfig()).eval().requires_grad_(False)
    ids = letters([f"{name}." for name in CLASS_NAMES])["input_ids"]
    ours, prompts = our_step(peer, pixels, labels)
    peers = peers_step(peer, pixels, labels, ids, prompts)
    for _step in range(2):
        our_loss, peers_loss = ours(), peers()
        same = abs(our_loss - peers_loss) < 1e-3 * abs(peers_loss)
        assert same, f"the two differ: loss {our_loss} and {peers_loss}"
    seconds, peak = against_peak({"ours": ours, "torch": peers}, REPEATS.value)
    flops = prompt_step_flops(peer.config, CLIPS.value * FRAMES.value, len(CLASS_NAMES), max(map(len, ids)))
    row = {
        "clips": CLIPS.value,
        "frames": FRAMES.value,
        "ours, s a step": round(median(seconds["ours"]), 2),
        "torch, s a step": round(median(seconds["torch"]), 2),
        **ratio(seconds["ours"], seconds["torch"]),
        "matrix products alone, s": round(flops / peak, 2),
        "GFLOP": round(flops / 1e9),
        "peak, GFLOP/s": round(peak / 1e9),
    }
    show([row], benchmark="tune")


if __name__ == "__main__":
    app.run(main)
