"""Trains the bundled HuBERT, mer_jax/assets/hubert/, on synthetic sounds.

    python -m pretrain.hubert

Two tasks at once: masked prediction of clusters of acoustic frames, as HuBERT's first iteration (Hsu et al. 2021),
and distillation: the first channels of the frame feature, the sum of the last four hidden states, are to be the
acoustic measures themselves, so that the mean and the variance of the feature hold theirs.

About 10 minutes on 2 idle cores; prints the share of the measures' variance that the features explain on new sounds,
0.51 to 0.93.
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.cluster import MiniBatchKMeans
from transformers import HubertConfig, Wav2Vec2FeatureExtractor

from mer_jax.models.hubert import Hubert
from pretrain.acoustics import acoustics
from pretrain.sounds import SAMPLES, random_sound
from pretrain.training import fit

TARGET = Path(__file__).parents[1] / "mer_jax" / "assets" / "hubert"

CLUSTERS = 100
BATCH = 8
LEARNING_RATE = 1.5e-3
MASKED_CLIPS, MASK_START, MASK_FRAMES = 0.5, 0.06, 8
DISTILLATION = 4.0  # weight beside masked prediction
SCALE = 2.0  # of the measures in the feature

CONFIG = HubertConfig(
    hidden_size=96,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=384,
    conv_dim=(48,) * 7,
    conv_bias=True,
    feat_extract_norm="layer",
    do_stable_layer_norm=True,
    num_conv_pos_embeddings=32,
    num_conv_pos_embedding_groups=8,
    mask_time_prob=0.0,  # the mask embedding is not kept
)


class Batch(NamedTuple):
    waveforms: np.ndarray  # [B, S]
    measures: np.ndarray  # float32 [B, T, A], standardised
    clusters: np.ndarray  # int32 [B, T]


def listen(seed: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    waveform = random_sound(seed)
    return waveform.astype(np.float16), acoustics(waveform)


def listen_to(seed: int, sounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Waveforms float16 [N, S] and measures [N, T, A], from as many processes as there are cores."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        heard = list(pool.map(listen, [(seed, index) for index in range(sounds)], chunksize=32))
    waveforms, measures = zip(*heard, strict=True)
    return np.stack(waveforms), np.stack(measures)


def batches(
    waveforms: np.ndarray, measures: np.ndarray, clusters: np.ndarray, rng: np.random.Generator
) -> Iterator[Batch]:
    """Endless: epoch after epoch in a new order."""
    while True:
        order = rng.permutation(len(waveforms))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            yield Batch(waveforms[chosen], measures[chosen], clusters[chosen])


class Pretraining(nnx.Module):
    """HuBERT with what only pretraining needs: the mask and the heads."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.hubert = Hubert(CONFIG, rngs=rngs)
        # Without biases the first norm would hide how loud the sound is.
        first = self.hubert.feature_encoder.layers[0].conv
        first.bias = nnx.Param(jax.random.normal(rngs.params(), first.bias.shape))
        self.mask = nnx.Param(0.1 * jax.random.normal(rngs.params(), (CONFIG.hidden_size,)))
        self.clusters = nnx.Linear(CONFIG.hidden_size, CLUSTERS, rngs=rngs)

    def loss(self, batch: Batch, key: jax.Array) -> jax.Array:
        """Cross-entropy on masked frames and squared error on the others."""
        lengths = jnp.full(len(batch.waveforms), SAMPLES)
        features, frames = self.hubert.feature_encoder(batch.waveforms.astype(jnp.float32), lengths)
        x = self.hubert.feature_projection(features)
        masked = random_mask(key, *x.shape[:2])  # [B, T]
        x = jnp.where(masked[..., None], self.mask[...], x)
        hidden_states = self.hubert.encoder(x, frames, keep_layers=4)  # [4, B, T, D]
        losses = optax.softmax_cross_entropy_with_integer_labels(self.clusters(hidden_states[-1]), batch.clusters)
        errors = hidden_states.sum(axis=0)[..., : batch.measures.shape[-1]] / SCALE - batch.measures
        distillation = jnp.mean(errors**2, where=~masked[..., None])
        prediction = losses.sum(where=masked) / jnp.maximum(masked.sum(), 1)  # a batch may have no mask
        return prediction + DISTILLATION * distillation


def random_mask(key: jax.Array, clips: int, frames: int) -> jax.Array:
    """[B, T] bool, spans of `MASK_FRAMES` in some of the clips."""
    clip_key, start_key = jax.random.split(key)
    chosen = jax.random.bernoulli(clip_key, MASKED_CLIPS, (clips, 1))
    starts = chosen & jax.random.bernoulli(start_key, MASK_START, (clips, frames))
    return jax.lax.reduce_window(
        starts, False, jnp.logical_or, (1, MASK_FRAMES), (1, 1), [(0, 0), (MASK_FRAMES - 1, 0)]
    )


def explained(hubert: Hubert, waveforms: np.ndarray, measures: np.ndarray) -> np.ndarray:
    """Share of each measure's variance that its channel of the frame feature explains."""
    lengths = jnp.full(len(waveforms), SAMPLES)
    feature = hubert(jnp.asarray(waveforms, jnp.float32), lengths).hidden_states.sum(axis=0)
    errors = np.asarray(feature)[..., : measures.shape[-1]] / SCALE - measures
    return 1 - np.square(errors).mean(axis=(0, 1)) / measures.var(axis=(0, 1))


def main(output: Path, sounds: int, steps: int, seed: int) -> None:
    waveforms, measures = listen_to(seed, sounds)
    mean, std = measures.mean(axis=(0, 1)), measures.std(axis=(0, 1))
    measures = (measures - mean) / std
    kmeans = MiniBatchKMeans(CLUSTERS, batch_size=4096, n_init=1, max_iter=20, random_state=seed)
    clusters = kmeans.fit_predict(measures.reshape(-1, measures.shape[-1])).reshape(measures.shape[:2])
    data = batches(waveforms, measures, clusters, np.random.default_rng(seed))
    model = Pretraining(rngs=nnx.Rngs(seed))
    model = fit(model, Pretraining.loss, data, steps, LEARNING_RATE, seed=seed)

    new_waveforms, new_measures = listen_to(seed + 1, 64)
    print("explained:", explained(model.hubert, new_waveforms, (new_measures - mean) / std).round(2))
    jax.tree.map(lambda x: x.astype(jnp.float16), model.hubert).save_pretrained(output)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=TARGET)
    parser.add_argument("--sounds", type=int, default=3000, help="clips of 2 s")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
