"""A run's video encoder: its prompts are trained once on the labelled clips, and loaded by whatever comes later."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mer_jax.checkpoints.config_classes import CLIPConfig
from mer_jax.checkpoints.huggingface import fetch, read_config
from mer_jax.checkpoints.pytrees import load_trained, save_trained
from mer_jax.data.clips import Clip
from mer_jax.features.embeddings import of_valid
from mer_jax.features.encoders import Encoder, video_encoder
from mer_jax.features.extraction import encode
from mer_jax.features.input_settings import InputSettings
from mer_jax.metrics import waf, weighted_f1
from mer_jax.models.clip import CLIP
from mer_jax.models.emovclip import EmoVCLIP, prompt_sets
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.kept import digest_of
from mer_jax.runtime.progress import progress
from mer_jax.runtime.random import named_key
from mer_jax.runtime.scalars import Scalars
from mer_jax.text.templates import CLASS_PROMPTS
from mer_jax.text.tokenizer import clip_tokenizer
from mer_jax.tuning.batches import FoldBatches
from mer_jax.tuning.strips import write_strips
from mer_jax.tuning.tune_settings import TuneSettings


class TunedPrompts(NamedTuple):
    """Trained prompts and how they compare; the plain encoder alone where no labelled clip has frames."""

    encoder: Encoder
    scores: dict[str, Any] | None = None  # the report's `video` section
    curves: dict[str, Any] | None = None  # the report's tuning curves


@dataclass
class PromptTuning:
    """EmoVCLIP on the backbone of a run, which is loaded once."""

    settings: TuneSettings
    inputs: InputSettings
    labels: Sequence[str]  # names of the classes
    num_folds: int
    workdir: Path  # of the run, where checkpoints and pictures are kept
    curves: Scalars = field(default_factory=Scalars)  # written epoch by epoch

    @cached_property
    def _clip(self) -> tuple[CLIP, Any]:
        """The backbone and its tokenizer."""
        video = self.inputs.encoders.video
        clip = CLIP.from_pretrained(video.source, dtype=video.dtype, attention_impl=video.attention)
        if not jnp.isfinite(clip.logit_scale[...]):
            raise DataError(f"{video.source}: its weights hold no logit_scale, by which prompts are tuned.")
        return clip, clip_tokenizer(fetch(video.source))

    def check(self) -> None:
        """Raises what `build` would, by the small files of the backbone's checkpoint alone."""
        folder = fetch(self.inputs.encoders.video.source, weights=False)
        config, tokenizer = read_config(folder, {"clip": CLIPConfig}), clip_tokenizer(folder)
        nnx.eval_shape(lambda: self._network(CLIP(config, rngs=nnx.Rngs(0)), tokenizer, jax.random.key(0)))

    def build(self, key: jax.Array, prompted: bool = True) -> EmoVCLIP:
        """The network with fresh prompts; plain CLIP if not prompted."""
        return self._network(*self._clip, key, prompted)

    def _network(self, clip: CLIP, tokenizer: Any, key: jax.Array, prompted: bool = True) -> EmoVCLIP:
        settings, asked = self.settings, CLASS_PROMPTS[self.settings.class_prompts]
        return EmoVCLIP(
            clip,
            [asked.nouns.get(label, label) for label in self.labels],
            (settings.num_prompts.vision, settings.num_prompts.text) if prompted else 0,
            (settings.depth.vision, settings.depth.text) if prompted else 0,
            tokenizer=tokenizer,
            context=asked.context,
            template=asked.text,
            remat=settings.remat,
            rngs=nnx.Rngs(key),
        )

    def plain_encoder(self) -> Encoder:
        """CLIP without prompts."""
        model = self.build(named_key(self.inputs.seed), prompted=False)
        return video_encoder(self.inputs.encoders.video, model, prompt_sets([model]))

    def trained_encoder(self) -> Encoder:
        """The encoder of a run whose prompts are trained."""
        model = self.build(named_key(self.inputs.seed))
        return video_encoder(self.inputs.encoders.video, model, self.trained_prompts(model))

    def trained_prompts(self, model: EmoVCLIP) -> Any:
        """The sets of prompts of such a run. model: as `build` gives it."""
        num_sets = self.num_folds if self.settings.mode == "per_fold" else 1
        return load_trained(self.workdir / "checkpoints" / "prompts", prompt_sets([model] * num_sets))

    def tune(self, clips: Sequence[Clip], labels: np.ndarray, fold_of: np.ndarray) -> TunedPrompts:
        """Zero-shot CLIP and a linear probe to compare with, then the prompts. labels, fold_of: [N] int."""
        from mer_jax.tuning.trainer import tune  # brings Optax

        seed, encoder = self.inputs.seed, self.plain_encoder()
        features = of_valid(clips, "video", lambda valid: encode(valid, encoder, self.workdir, self.inputs.extraction))
        with_frames = np.flatnonzero(features.present)
        if not with_frames.size:
            print("  no labelled clip has frames: no prompts are tuned", file=sys.stderr)
            return TunedPrompts(encoder)
        embeddings = np.asarray(features.embeddings)[with_frames]
        clips, labels, fold_of = [clips[int(i)] for i in with_frames], labels[with_frames], fold_of[with_frames]
        plain = self.build(named_key(seed), prompted=False)
        zero_shot = np.asarray(plain.logits(jnp.asarray(embeddings), plain.class_features()))

        # A clip without frames teaches prompts nothing, so none is dropped.
        corruption = replace(self.inputs.corruptions.training, drop="")
        extraction, size = self.inputs.extraction, self.settings.batch_size
        batches = FoldBatches(clips, labels, fold_of, encoder.reader, corruption, extraction, size, seed)
        keys = [encoder.key(clip) for clip in clips]
        targets = [labels.tolist(), fold_of.tolist()]
        made_of = digest_of(encoder.fingerprint, keys, targets, self.settings, seed, corruption)
        with progress(f"EmoVCLIP prompts on {len(clips):,} clips", self.settings.epochs, "epoch") as bar:
            folder = self.workdir / "checkpoints"
            state = tune(self.build, batches, self.settings, seed, folder / "tuning", made_of, bar.update, self.curves)
        save_trained(folder / "prompts", state.prompts)
        model = self.build(named_key(seed))
        set_of = fold_of if self.settings.mode == "per_fold" else np.zeros_like(fold_of)
        examples = np.sort(np.unique(labels, return_index=True)[1]).tolist()  # the first clip of every class
        example_prompts = [jax.tree.map(lambda leaf, i=i: leaf[set_of[i]], state.prompts) for i in examples]
        example_clips, pictures = [clips[i] for i in examples], self.workdir / "report" / "frames"
        folds = [fold_of == fold for fold in np.unique(fold_of)]
        scores = {
            "mode": self.settings.mode,
            "zero_shot": float(np.mean([waf(labels[fold], zero_shot[fold]) for fold in folds])),
            "linear_probe": linear_probe(embeddings, labels, fold_of),
            "tuned": float(state.waf[:, -1].mean()),
            "tuned_best": float(state.waf.max(axis=1).mean()),
            "strips": write_strips(model, plain, example_prompts, example_clips, encoder.reader, pictures),
        }
        curves = {"loss": state.loss.tolist(), "waf": state.waf.tolist()}
        return TunedPrompts(video_encoder(self.inputs.encoders.video, model, state.prompts), scores, curves)


def linear_probe(embeddings: np.ndarray, labels: np.ndarray, fold_of: np.ndarray) -> float:
    """Mean WAF over folds of logistic regression on frozen embeddings [N, P]; of one class, that class."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = []
    for fold in (fold_of == number for number in np.unique(fold_of)):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        if len(np.unique(labels[~fold])) < 2:  # which a regression refuses
            predictions = np.full(fold.sum(), labels[~fold][0] if not fold.all() else 0)
        else:
            predictions = probe.fit(embeddings[~fold], labels[~fold]).predict(embeddings[fold])
        scores.append(float(weighted_f1(labels[fold], predictions, int(labels.max()) + 1)))
    return float(np.mean(scores))
