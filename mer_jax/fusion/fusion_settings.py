"""How the fusion head is trained, and what is trained beside it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mer_jax.defaults import DROPOUT, HIDDEN, MODALITY_DROPOUT, OVER_DEVICES
from mer_jax.runtime.settings import setting

if TYPE_CHECKING:
    import jax

STANDARDISE = ("none", "all", "group")  # raw; by all clips; by all, then by those of the clip's own group


class Hyperparameters(NamedTuple):
    """What a grid may vary within one program: scalars, or [R] arrays as a part of `Trials`."""

    learning_rate: "float | jax.Array"
    l2: "float | jax.Array"  # added to the gradient
    dropout: "float | jax.Array"
    modality_dropout: "float | jax.Array"
    label_smoothing: "float | jax.Array"


NETWORKS = ("best", "last", "average")
"""Which of a training's networks predict: the epoch that is best by the held-out clips (the paper's and the baseline's
way), the last one, or the mean of the weights of the last half of all epochs."""


@dataclass(frozen=True)
class FusionSettings:
    """The fusion head and its training: `config.fusion`."""

    hidden: int = setting(HIDDEN, least=1)
    dropout: float = setting(DROPOUT, least=0, most=0.99)
    modality_dropout: float = setting(MODALITY_DROPOUT, least=0, most=1)
    stream_dropout: float = setting(0.0, least=0, most=0.99, decisive=False)  # of single ones, where there are several
    keep_one: bool = setting(True)  # False: Eq. 2 to the letter, which may drop everything
    standardise: str = setting("all", choices=STANDARDISE, was={True: "all", False: "none"})  # "none": as in the paper
    learning_rate: float = setting(3e-4, above=0)
    l2: float = setting(1e-5, least=0)
    label_smoothing: float = setting(0.0, least=0, most=0.99)
    batch_size: int = setting(64, least=1)
    epochs: int = setting(30, least=1)
    network: str = setting("best", choices=NETWORKS)
    seeds: int = setting(1, least=1)  # networks of a fold, whose logits are averaged
    over_devices: str = setting(OVER_DEVICES[0], choices=OVER_DEVICES, decisive=False)

    @property
    def later(self) -> tuple[float, ...]:
        """What came after runs whose kept parts are named without it, where it is not as it was then."""
        return (self.stream_dropout,) if self.stream_dropout else ()

    @property
    def hyperparameters(self) -> Hyperparameters:
        return Hyperparameters(*(getattr(self, name) for name in Hyperparameters._fields))


@dataclass(frozen=True)
class AblationSettings:
    """What is trained beside a run, to compare with: `config.ablations`."""

    modality_dropouts: tuple[float, ...] = setting((0.0, 0.15, 0.3, 0.5), least=0, most=1)
    without_video: bool = setting(True)
    single_modalities: bool = setting(True)
    without_ranking: bool = setting(True)  # text alone once more, from the bare transcripts
