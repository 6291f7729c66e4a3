"""EmoVCLIP's prompts: the stage that tunes them, and its command.

    python -m mer_jax.tune --config=configs/semi.py [--workdir=DIR] [--config.tune.epochs=30 ...]

In the workdir of a run of `mer_jax.train` the two share what is done: either continues the other's work.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoTokenizer

from mer_jax.checkpoints.huggingface import fetch
from mer_jax.checkpoints.pytrees import load_trained, save_trained
from mer_jax.data.clips import Clip
from mer_jax.features.encoders import Encoder, video_encoder
from mer_jax.metrics import waf, weighted_f1
from mer_jax.models.clip import CLIP
from mer_jax.models.emovclip import EmoVCLIP
from mer_jax.runtime import cli
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.progress import progress
from mer_jax.runtime.random import named_key
from mer_jax.runtime.run import Run
from mer_jax.stages import encode, labelled_folds, run_dataset
from mer_jax.text.class_prompts import CLASS_PROMPTS
from mer_jax.tuning.strips import write_strips
from mer_jax.tuning.trainer import prompt_sets, tune


def main(config: ConfigDict, workdir: Path) -> None:
    """The command: the data set, then the prompts."""
    run = Run(workdir, config)
    run.announce(["data", "tune"])
    with run.stage("data"):
        dataset = run_dataset(config, workdir)
        labelled, truth, fold_of = labelled_folds(dataset, config, workdir)
    with run.stage("tune"):
        clips = [dataset.clips[i] for i in labelled]
        scores = tune_prompts(config, workdir, clips, dataset.labels, truth, fold_of).scores
    for name in ("zero_shot", "linear_probe", "tuned", "tuned_last"):
        print(f"{name.replace('_', ' '):13} {100 * scores[name]:5.1f}  WAF of video alone, %, cross-validated")
    print(f"prompts: {workdir / 'checkpoints' / 'prompts'}", file=sys.stderr)


class Tuned(NamedTuple):
    """Trained prompts and how they compare."""

    encoder: Encoder  # of the tuned prompts
    scores: dict[str, Any]  # the report's `video` section
    curves: dict[str, Any]  # the report's tuning curves


def emovclip_builder(config: Any, labels: Sequence[str]) -> Callable[..., EmoVCLIP]:
    """(key, prompted=True) -> EmoVCLIP on the config's backbone, loaded once; plain CLIP if not prompted."""
    settings, source = config.tune, config.encoders.video.source
    if settings.class_prompts not in CLASS_PROMPTS:
        known = ", ".join(CLASS_PROMPTS)
        raise UsageError(f"tune.class_prompts: unknown {settings.class_prompts!r}; known: {known}")
    asked = CLASS_PROMPTS[settings.class_prompts]
    clip = CLIP.from_pretrained(source, dtype=config.encoders.video.dtype)
    tokenizer = AutoTokenizer.from_pretrained(fetch(source))

    def build(key: jax.Array, prompted: bool = True) -> EmoVCLIP:
        return EmoVCLIP(
            clip,
            [asked.nouns.get(label, label) for label in labels],
            (settings.num_prompts.vision, settings.num_prompts.text) if prompted else 0,
            (settings.depth.vision, settings.depth.text) if prompted else 0,
            tokenizer=tokenizer,
            context=asked.context,
            template=asked.text,
            remat=settings.remat,
            images_at_once=settings.images_at_once,
            rngs=nnx.Rngs(key),
        )

    return build


def tune_prompts(
    config: Any,
    workdir: Path,
    clips: Sequence[Clip],
    labels: Sequence[str],
    truth: np.ndarray,
    fold_of: np.ndarray,
) -> Tuned:
    """The tuning stage: zero-shot CLIP and a linear probe to compare with, then the prompts.

    clips: the labelled ones; truth, fold_of: [N] int, their labels and folds.
    """
    build = emovclip_builder(config, labels)
    plain_model = build(named_key(config.seed), prompted=False)
    plain = encode(
        config, workdir, clips, video_encoder(config.encoders.video, plain_model, prompt_sets([plain_model]))
    )
    found = np.flatnonzero(plain.present)
    embeddings = np.asarray(plain.embeddings)[found]
    truth, fold_of = truth[found], fold_of[found]
    zero_shot = np.asarray(plain_model.logits(jnp.asarray(embeddings), plain_model.class_features()))

    encoder = video_encoder(config.encoders.video, plain_model, prompt_sets([plain_model]))
    with progress("EmoVCLIP prompts", len(found) * config.tune.epochs, "clip") as bar:
        state = tune(
            build,
            [clips[int(i)] for i in found],
            truth,
            fold_of,
            config.tune,
            {**config.corruptions.training, "drop": ""},  # a clip without frames teaches prompts nothing
            encoder.reader,
            config.seed,
            workdir / "checkpoints" / "tune",
            bar.update,
        )
    save_trained(workdir / "checkpoints" / "prompts", state.best_prompts)
    scores = {
        "mode": config.tune.mode,
        "zero_shot": float(np.mean([waf(truth[fold], zero_shot[fold]) for fold in held_out(fold_of)])),
        "linear_probe": linear_probe(embeddings, truth, fold_of),
        "tuned": float(state.best_waf.mean()),
        "tuned_last": float(state.waf[:, -1].mean()),
    }
    set_of = fold_of if config.tune.mode == "per_fold" else np.zeros_like(fold_of)
    examples = np.sort(np.unique(truth, return_index=True)[1])  # the first clip of every class
    scores["strips"] = write_strips(
        build(named_key(config.seed)),
        plain_model,
        [jax.tree.map(lambda leaf, i=i: leaf[set_of[i]], state.best_prompts) for i in examples],
        [clips[int(found[i])] for i in examples],
        encoder.reader,
        workdir / "report" / "frames",
    )
    curves = {"loss": state.loss.tolist(), "waf": state.waf.tolist()}
    return Tuned(
        video_encoder(config.encoders.video, build(named_key(config.seed)), state.best_prompts), scores, curves
    )


def held_out(fold_of: np.ndarray) -> list[np.ndarray]:
    """Of each fold that has clips, which they are: bool [N]."""
    return [fold_of == fold for fold in np.unique(fold_of)]


def linear_probe(embeddings: np.ndarray, truth: np.ndarray, fold_of: np.ndarray) -> float:
    """Mean WAF over folds of logistic regression on frozen embeddings [N, P]."""
    scores = []
    for clips in held_out(fold_of):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        probe.fit(embeddings[~clips], truth[~clips])
        predictions = probe.predict(embeddings[clips])
        scores.append(float(weighted_f1(truth[clips], predictions, int(truth.max()) + 1)))
    return float(np.mean(scores))


def prompted_encoder(config: Any, workdir: Path, labels: Sequence[str]) -> Encoder:
    """The video encoder of a run whose prompts are trained."""
    model = emovclip_builder(config, labels)(named_key(config.seed))
    sets = config.cv.folds if config.tune.mode == "per_fold" else 1
    prompts = load_trained(workdir / "checkpoints" / "prompts", prompt_sets([model] * sets))
    return video_encoder(config.encoders.video, model, prompts)


if __name__ == "__main__":
    cli.run_configured(main)
