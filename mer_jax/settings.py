"""All of a run's settings, from the classes of the rooms that use them."""

from dataclasses import dataclass

from mer_jax.data.records import PrepareSettings
from mer_jax.features.inputs import InputSettings
from mer_jax.fusion.folds import FoldSettings
from mer_jax.fusion.trials import AblationSettings, FusionSettings
from mer_jax.runtime.settings import section
from mer_jax.self_training import SelfTrainingSettings
from mer_jax.tuning.trainer import TuneSettings


@dataclass(frozen=True)
class Settings(InputSettings):
    """What a config file gives, beside the inputs."""

    prepare: PrepareSettings = section(PrepareSettings)
    cv: FoldSettings = section(FoldSettings)
    tune: TuneSettings = section(TuneSettings)
    fusion: FusionSettings = section(FusionSettings)
    self_training: SelfTrainingSettings = section(SelfTrainingSettings)
    ablations: AblationSettings = section(AblationSettings)
