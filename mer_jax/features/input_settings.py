"""What a run's inputs are to be."""

from dataclasses import dataclass

from mer_jax.data.clips import unknown_modalities, wrong_modalities
from mer_jax.data.corruptions import CorruptionsSettings
from mer_jax.data.dataset import VARIANTS, DataSettings, SampleData
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.defaults import MODALITIES, in_order
from mer_jax.features.encoder_settings import EncoderSettings, SpeechSettings
from mer_jax.features.stream_settings import ReadyMadeStream, Stream, StreamSettings, ready_made_streams, unusable
from mer_jax.runtime.errors import UsageError
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
    streams: dict[str, StreamSettings] = setting({})  # name -> a stream beside these; see features/stream_settings.py
    left_out: str = setting("")  # "+"-joined streams that the run goes without
    transcripts: TranscriptSettings = section(TranscriptSettings)
    ranking: RankingSettings = section(RankingSettings)
    extraction: ExtractionSettings = section(ExtractionSettings)
    corruptions: CorruptionsSettings = section(CorruptionsSettings)

    def check(self) -> None:
        """Raises UsageError where streams and modalities do not go together."""
        known = [*MODALITIES, *self.own_modalities]
        asked = {"data.modalities": self.data.modalities}
        asked |= {
            f"corruptions.{each}.drop": getattr(self.corruptions, each).drop for each in ("training", "evaluation")
        }
        for key, names in asked.items():
            if problem := unknown_modalities(names, known):
                raise UsageError(f"{key}={names!r}: {problem}")
        if problem := wrong_modalities(self.data.candidate_modalities, known):
            raise UsageError(f"data.candidate_modalities={self.data.candidate_modalities!r}: {problem}")
        first = [name for modality in MODALITIES for name in self._first_streams(modality)]
        if doubled := next((name for name in first if first.count(name) > 1), None):
            raise UsageError(f"two modalities have a stream {doubled!r}, after its folder; give one another name")
        for name, each in self.streams.items():
            if problem := unusable(name):
                raise UsageError(f"streams.{name}: {problem}")
            if name in (*first, *MODALITIES):
                raise UsageError(f"streams.{name}: another stream is called so; give this one another name")
            if isinstance(each, ReadyMadeStream) and not each.feature:
                encoded = "a further one has no prompts" if each.modality == "video" else "no encoder is for it"
                raise UsageError(f"streams.{name}: {each.modality} needs a feature, a folder of files; {encoded}")
        left_out = {*self.left_out.split("+")} - {""}
        if unknown := sorted(left_out - {*self._all_sources}):
            raise UsageError(
                f"left_out={self.left_out!r}: no stream {unknown[0]!r}; known: {'+'.join(self._all_sources)}"
            )
        if left_out and not self.sources:
            raise UsageError(f"left_out={self.left_out!r}: no stream is left")
        rates = {each.encoder.sample_rate for each in self.sources.values() if isinstance(each.encoder, SpeechSettings)}
        if len(rates) > 1:
            raise UsageError(f"streams of speech at {' and '.join(map(str, sorted(rates)))} Hz: set one sample_rate")

    def _first_streams(self, modality: str) -> dict[str, Stream]:
        """Those of one of MODALITIES that stand in no table: its ready-made ones, else its encoder's."""
        folders = ready_made_streams(modality, getattr(self.data, f"{modality}_feature", ""))
        ready_made = {name: Stream(modality, feature=folder) for name, folder in folders.items()}
        encoder = Stream(modality, getattr(self.encoders, modality), section=f"encoders.{modality}")
        return ready_made or {modality: encoder}

    @property
    def sources(self) -> dict[str, Stream]:
        """The streams that the run has, by name, in the order that they have wherever they do."""
        left_out = self.left_out.split("+")
        return {name: stream for name, stream in self._all_sources.items() if name not in left_out}

    @property
    def _all_sources(self) -> dict[str, Stream]:
        """Those of the modalities that are asked for."""
        streams = {name: stream for each in MODALITIES for name, stream in self._first_streams(each).items()}
        for name, own in self.streams.items():
            streams[name] = own.stream(f"streams.{name}")
        asked = self.data.modalities.split("+") if self.data.modalities else None
        modality_of = {name: each.modality for name, each in streams.items() if asked is None or each.modality in asked}
        return {name: streams[name] for name in in_order(modality_of)}

    @property
    def modality_of(self) -> dict[str, str]:
        """Stream -> its modality."""
        return {name: stream.modality for name, stream in self.sources.items()}

    @property
    def own_modalities(self) -> list[str]:
        """The user's, beside MODALITIES."""
        return sorted({each.modality for each in self.streams.values()} - {*MODALITIES})

    @property
    def ready_made(self) -> dict[str, str]:
        """Stream -> the folder of its ready-made features, of all that have one."""
        return {name: stream.feature for name, stream in self.sources.items() if stream.feature}

    @property
    def encoded_streams(self) -> dict[str, Stream]:
        """Those that are not ready-made."""
        return {name: stream for name, stream in self.sources.items() if stream.encoder}

    @property
    def encoded(self) -> tuple[str, ...]:
        """The modalities that these are of."""
        return tuple(dict.fromkeys(stream.modality for stream in self.encoded_streams.values()))

    @property
    def drawn(self) -> list[str]:
        """A caution where some of the encoders are those for drawings."""
        bundled = [name for name, each in self.encoded_streams.items() if each.source.startswith("bundled/")]
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
