"""What a run's inputs are to be."""

from dataclasses import dataclass

from mer_jax.data.corruptions import CorruptionsSettings
from mer_jax.data.dataset import VARIANTS, DataSettings, SampleData
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.features.encoder_settings import EncoderSettings
from mer_jax.runtime.settings import section, setting
from mer_jax.text.ranking_settings import RankingSettings
from mer_jax.text.transcript_settings import TranscriptSettings


@dataclass(frozen=True)
class InputSettings:
    """The part of a config that says what the inputs are."""

    seed: int = setting(0, least=0, most=2**32 - 1)  # larger ones give the numbers of smaller ones
    variant: str = setting("sample", choices=tuple(VARIANTS))
    data: DataSettings = section(SampleData)
    encoders: EncoderSettings = section(EncoderSettings)
    transcripts: TranscriptSettings = section(TranscriptSettings)
    ranking: RankingSettings = section(RankingSettings)
    extraction: ExtractionSettings = section(ExtractionSettings)
    corruptions: CorruptionsSettings = section(CorruptionsSettings)

    @property
    def encoded(self) -> tuple[str, ...]:
        """The modalities that are asked for and not ready-made."""
        return tuple(name for name in self.data.chosen_modalities if name not in self.data.ready_made)

    @property
    def drawn(self) -> list[str]:
        """A caution where some of the encoders are those for drawings."""
        bundled = [name for name in self.encoded if getattr(self.encoders, name).source.startswith("bundled/")]
        if not bundled:
            return []
        return [
            f"the bundled encoders ({', '.join(bundled)}) know drawings and synthetic voices alone: labels of real "
            "clips mean nothing; encoders=base takes others"
        ]

    def back_to(self, earlier: "InputSettings") -> str:
        """How to go on with a run that began with other encoders, where that is one word."""
        return "encoders=bundled goes on with it; or " if earlier.drawn and not self.drawn else ""

    @property
    def reads_rankings(self) -> bool:
        """Whether anything does."""
        return "text" in self.encoded

    @property
    def transcribes(self) -> bool:
        """Whether clips without a transcript are given one."""
        return self.reads_rankings and self.transcripts.transcriber != "none"
