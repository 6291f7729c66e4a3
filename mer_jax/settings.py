"""All of a run's settings, from the classes of the rooms that use them."""

from dataclasses import dataclass

from mer_jax.data.clips import wrong_modalities
from mer_jax.data.records import PrepareSettings
from mer_jax.data.votes import VoteSettings
from mer_jax.defaults import MODALITIES
from mer_jax.features.input_settings import InputSettings
from mer_jax.fusion.folds import FoldSettings
from mer_jax.fusion.fusion_settings import AblationSettings, FusionSettings
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.settings import section
from mer_jax.self_training_settings import OWN_FOLD, SelfTrainingSettings
from mer_jax.tuning.tune_settings import TuneSettings


@dataclass(frozen=True)
class Settings(InputSettings):
    """What a config file gives, beside the inputs."""

    prepare: PrepareSettings = section(PrepareSettings)
    cv: FoldSettings = section(FoldSettings)
    tune: TuneSettings = section(TuneSettings)
    fusion: FusionSettings = section(FusionSettings)
    self_training: SelfTrainingSettings = section(SelfTrainingSettings)
    votes: VoteSettings = section(VoteSettings)
    ablations: AblationSettings = section(AblationSettings)

    def check(self) -> None:
        """Raises UsageError where streams and modalities do not go together."""
        super().check()
        if problem := wrong_modalities(self.cv.shown, [*MODALITIES, *self.own_modalities]):
            raise UsageError(f"cv.shown={self.cv.shown!r}: {problem}")

    @property
    def flattering(self) -> list[str]:
        """Why the cross-validated score is not honest, if it is not."""
        reasons = []
        if "video" in self.encoded and self.tune.mode == "all_labelled":
            reasons.append(
                "the video prompts were tuned on all labelled clips, those that each fold holds out included"
            )
        if self.cv.settings_from:
            reasons.append(f"the settings were chosen by this score on these clips ({self.cv.settings_from})")
        if self.self_training.calibrated and self.self_training.chooser == OWN_FOLD:
            reasons.append(
                "the confidence of pseudo-labels is calibrated by networks that have seen the held-out clips"
            )
        return reasons
