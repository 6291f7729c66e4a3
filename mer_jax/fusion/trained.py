"""The ensemble of a finished run: what `predict` needs of it, on disk and back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mer_jax.checkpoints.pytrees import load_trained, save_trained
from mer_jax.features.embeddings import Embedded
from mer_jax.features.standardise import Standardiser
from mer_jax.fusion.ensemble import Members, Scorer
from mer_jax.metrics import softmax
from mer_jax.models.fusion import MODALITIES, AttentionFusion
from mer_jax.runtime.files import dump_json, load_json


@dataclass(frozen=True)
class Shape:
    """What rebuilds the networks."""

    labels: tuple[str, ...]
    dims: dict[str, int]
    hidden: int
    num_folds: int


def save_ensemble(folder: Path, shape: Shape, params: nnx.State, standardiser: Standardiser) -> None:
    """Writes `ensemble.json`, the folds' parameters (leaves [F, ...]) and what standardises their features."""
    save_trained(folder / "ensemble", params)
    standardiser.save(folder / "standardiser.safetensors")
    dump_json(folder / "ensemble.json", asdict(shape))


class TrainedEnsemble:
    """The folds' networks of a finished run. folder: its `checkpoints`."""

    def __init__(self, folder: Path):
        self.shape = Shape(**load_json(folder / "ensemble.json"))
        labels, dims = self.shape.labels, self.shape.dims
        network = AttentionFusion(dims, self.shape.hidden, len(labels), rngs=nnx.Rngs(0))
        one = nnx.split(network, nnx.Param, ...)[1]
        stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (self.shape.num_folds, *x.shape)), one)
        params = load_trained(folder / "ensemble", stacked)
        everything = np.ones((self.shape.num_folds, len(MODALITIES)), bool)
        self.standardiser = Standardiser.load(folder / "standardiser.safetensors")
        self.members = Members(params, np.arange(self.shape.num_folds), everything)
        self.scorer = Scorer(dims, len(labels), self.shape.hidden, batch_size=16)

    def __call__(
        self, features: Mapping[str, Embedded], present: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities [N, C] and mean attention [N, M]; inputs as in `Scorer`."""
        scores: Any = self.scorer(self.members, self.standardiser(features), present)
        return softmax(scores.logits.mean(axis=0)), scores.attention.mean(axis=0)
