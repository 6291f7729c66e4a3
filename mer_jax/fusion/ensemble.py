"""Trained networks applied to any number of clips, and the ensemble of a finished run on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mer_jax.checkpoints.pytrees import load_trained, save_trained
from mer_jax.defaults import HIDDEN, in_order
from mer_jax.features.embeddings import Embedded
from mer_jax.features.standardise import Standardiser, within_groups
from mer_jax.fusion.calibration import calibrated
from mer_jax.fusion.data import clip_axis, pad_clips
from mer_jax.fusion.modalities import by_modality
from mer_jax.models.fusion import AttentionFusion, FusionOutput
from mer_jax.runtime.array_types import PyTree
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.kept import keep, read_kept
from mer_jax.runtime.profiling import step


class Members(NamedTuple):
    """R networks. The mean of the logits of a setting's folds is its ensemble."""

    params: nnx.State  # leaves [R, ...]
    fold: jax.Array  # [R] int, which of the features to read where each fold has its own
    sees: Mapping[str, jax.Array]  # by stream [R] bool, whether they see it


class MemberOutputs(NamedTuple):
    """`FusionOutput` of each member, on the host."""

    logits: np.ndarray  # [R, N, C] float32
    attention: np.ndarray  # [R, N, S] float32, by stream


class Scorer:
    """Scores clips in batches of a fixed size: one compilation for all calls with as many members.

    batch_size: clips per step on each of the devices, by default all local ones. The rest as of `AttentionFusion`.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        num_classes: int,
        hidden: int = HIDDEN,
        batch_size: int = 1024,
        devices: Sequence[jax.Device] | None = None,
        modality_of: Mapping[str, str] | None = None,
    ):
        devices = jax.local_devices() if devices is None else devices
        self.dims = dict(dims)
        self.modality_of = modality_of  # which says the order that the members' streams have
        self.num_classes = num_classes
        self.hidden = hidden
        self._batch_size = batch_size * len(devices)
        self._mesh = Mesh(np.array(devices), ("data",))
        self.apply = jax.jit(jax.vmap(self._member, in_axes=(0, None, None)))

    def __call__(
        self, members: Members, features: Mapping[str, Embedded], present: Mapping[str, np.ndarray]
    ) -> MemberOutputs:
        """Scores N clips; features on disk are read batch by batch and never held as a whole.

        features: [N, D] per stream, or [F, N, D] where each fold has its own. present: [N] bool per stream.
        """
        members = jax.device_put(members, NamedSharding(self._mesh, PartitionSpec()))
        total = len(next(iter(present.values())))
        outputs: list[FusionOutput] = []
        for start in range(0, total, self._batch_size):
            clips = slice(start, min(start + self._batch_size, total))
            batch_features = {name: self._place(x[..., clips, :], np.float32) for name, x in features.items()}
            batch_present = {name: self._place(x[clips], bool) for name, x in present.items()}
            if outputs:
                # Fetched only now, so that the device computed while the host read the next batch.
                outputs[-1] = jax.device_get(outputs[-1])
            outputs.append(step("scoring", start, self.apply, members, batch_features, batch_present))
        return MemberOutputs(*(np.concatenate(parts, axis=1)[:, :total] for parts in zip(*outputs, strict=True)))

    def _member(self, member: Members, features: Mapping, present: Mapping) -> FusionOutput:
        model = AttentionFusion(
            self.dims, self.hidden, self.num_classes, rngs=nnx.Rngs(0), modality_of=self.modality_of
        )
        nnx.update(model, member.params)
        own_features = {name: x if x.ndim == 2 else x[member.fold] for name, x in features.items()}
        seen = {name: x & member.sees[name] for name, x in present.items()}
        return model(own_features, seen)

    def _place(self, x: np.ndarray, dtype: type) -> jax.Array:
        """Pads the clips to a full batch and spreads them over the devices."""
        axis = clip_axis(x)
        sharding = NamedSharding(self._mesh, PartitionSpec(*[None] * axis, "data"))
        return jax.device_put(pad_clips(np.asarray(x, dtype), self._batch_size - x.shape[axis]), sharding)


@dataclass(frozen=True)
class Shape:
    """What rebuilds the networks."""

    labels: tuple[str, ...]
    dims: dict[str, int]  # by stream
    hidden: int
    num_folds: int
    seeds: int = 1  # networks of a fold
    temperatures: Sequence[float] = ()  # for 1, 2, ... present modalities; none: 1
    in_groups: bool = False  # whether features were standardised within groups, too
    usual_sizes: Mapping[str, float] = field(default_factory=dict)  # of each stream's features, see `Features`
    streams: Mapping[str, str] = field(default_factory=dict)  # stream -> modality, of those that are called otherwise

    @property
    def modality_of(self) -> dict[str, str]:
        """Stream -> its modality."""
        return in_order({stream: self.streams.get(stream, stream) for stream in self.dims})

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.modality_of.values()))

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "Shape":
        """What `asdict` gave, and JSON made of it. Raises an error of Python's for anything else."""
        shape = cls(**{**saved, "labels": tuple(saved["labels"])})
        np.array(shape.temperatures, np.float64)
        if min(shape.hidden, shape.num_folds, shape.seeds, *shape.dims.values()) < 1:
            raise ValueError("an array of no size")
        return shape


def save_ensemble(folder: Path, shape: Shape, params: PyTree, standardiser: Standardiser) -> None:
    """Writes `ensemble.json`, the networks' parameters (leaves [F * N, ...]) and what standardises their features."""
    save_trained(folder / "ensemble", params)
    standardiser.save(folder / "standardiser.safetensors")
    keep(folder / "ensemble.json", asdict(shape))


class TrainedEnsemble:
    """The folds' networks of a finished run, whose `checkpoints` are in `folder`."""

    def __init__(self, folder: Path):
        self.shape = read_kept(folder / "ensemble.json", earlier=True, parse=Shape.from_json)
        labels, dims, hidden = self.shape.labels, self.shape.dims, self.shape.hidden
        modality_of = self.shape.modality_of
        network = AttentionFusion(dims, hidden, len(labels), rngs=nnx.Rngs(0), modality_of=modality_of)
        one, count = nnx.split(network, nnx.Param, ...)[1], self.shape.num_folds * self.shape.seeds
        params = load_trained(folder / "ensemble", jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), one))
        fold = jnp.repeat(jnp.arange(self.shape.num_folds), self.shape.seeds)
        self.members = Members(params, fold, dict.fromkeys(dims, jnp.ones(count, bool)))
        self.temperatures = np.array(self.shape.temperatures or [1.0] * len(self.shape.modalities))
        self.standardiser = Standardiser.load(folder / "standardiser.safetensors", dims)
        self.scorer = Scorer(dims, len(labels), hidden, batch_size=16, modality_of=modality_of)

    def __call__(
        self, features: Mapping[str, Embedded], present: Mapping[str, np.ndarray], groups: Sequence[str | None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Calibrated probabilities [N, C] and mean attention [N, S] by stream; features and present as in `Scorer`.

        groups: [N], of the clips, which count where the run standardised within groups; None for none.
        """
        standardised = self.standardiser(features)
        if self.shape.in_groups:
            standardised = within_groups(standardised, present, groups)
        outputs = self.scorer(self.members, standardised, present)
        if not np.isfinite(outputs.logits).all():
            raise DataError("the ensemble gives numbers that are not finite: train it again in another workdir")
        count = np.sum(list(by_modality(present, self.shape.modality_of).values()), axis=0)
        return calibrated(outputs.logits.mean(axis=0), count, self.temperatures), outputs.attention.mean(axis=0)
