"""The one seam between a data set and a run: which clips there are, and what each modality of them is.

Only `Inputs` decides whether a modality is ready-made, encoded or tuned, whether faces have to be found, and whether
anything reads a ranking of the transcripts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jax
import numpy as np

from mer_jax.data.clips import Clip, Dataset, Problem
from mer_jax.data.corruptions import CorruptionsSettings, corrupt, corrupted_copies
from mer_jax.data.crops import find_faces
from mer_jax.data.dataset import VARIANTS, DataSettings, SampleData, check_content, check_unchanged, open_dataset
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.features.embeddings import Features
from mer_jax.features.encoders import Encoder, EncoderSettings, image_encoder, speech_encoder, text_encoder
from mer_jax.features.extraction import encode
from mer_jax.features.ready_made import load_ready_made
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.hosts import first_host_first
from mer_jax.runtime.kept import Damaged, make_again
from mer_jax.runtime.settings import section, setting
from mer_jax.text.rankings import Rankings, RankingSettings, rank_transcripts


@dataclass(frozen=True)
class InputSettings:
    """The part of a config that says what the inputs are."""

    seed: int = setting(0, least=0, most=2**32 - 1)  # larger ones give the numbers of smaller ones
    variant: str = setting("sample", choices=tuple(VARIANTS))
    data: DataSettings = section(SampleData)
    encoders: EncoderSettings = section(EncoderSettings)
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

    @property
    def reads_rankings(self) -> bool:
        """Whether anything does."""
        return "text" in self.encoded


@dataclass
class Inputs:
    """A run's clips, their corrupted copies and rankings, and the features of both.

    `tuned_encoder` gives the video encoder, whose prompts are trained on the labelled clips; it is called only when
    video features are asked for. None where they are not.
    """

    dataset: Dataset
    settings: InputSettings
    workdir: Path  # of the run, where crops and features are kept
    tuned_encoder: Callable[[], Encoder] | None = None

    @cached_property
    def clips(self) -> list[Clip]:
        """The data set's clips, with face crops where these are encoded."""
        if "image" not in self.settings.encoded:
            return list(self.dataset.clips)
        return find_faces(self.dataset.clips, self.workdir / "faces", self.settings.extraction)

    @cached_property
    def copies(self) -> tuple[list[Clip], np.ndarray]:
        """Corrupted copies of labelled clips, to train on beside them, and their originals [K] among these."""
        labelled_clips = [self.clips[i] for i in self.dataset.split("train")]
        return corrupted_copies(labelled_clips, self.settings.corruptions.training, self.settings.seed)

    @property
    def everything(self) -> list[Clip]:
        """The clips, then the copies."""
        return [*self.clips, *self.copies[0]]

    @cached_property
    def rankings(self) -> Rankings:
        """Of the clips' transcripts; none where nothing reads them."""
        if not self.settings.reads_rankings or not any(clip.transcript for clip in self.dataset.clips):
            return Rankings.none()
        with first_host_first("rankings"):
            return rank_transcripts(self.dataset.clips, self.dataset.labels, self.settings.ranking)

    def features(self, modality: str, with_rankings: bool = True) -> Features:
        """One modality of the clips, then of the copies, from the workdir where it is there.

        modality: one of those that the settings choose. with_rankings: False reads the bare transcripts.
        """
        if modality not in self.settings.encoded:
            return load_ready_made(self.everything, modality, self.workdir, self.settings.extraction)
        encoder = self.encoder(modality, with_rankings)
        try:
            return encode(self.everything, encoder, self.workdir, self.settings.extraction)
        except Damaged as reason:  # crops, which are compared with what they were when they are read
            if jax.process_count() > 1:
                raise DataError(f"{reason}; remove it, and start the same command again") from reason
            make_again(reason)
        self.clips = find_faces(self.dataset.clips, self.workdir / "faces", self.settings.extraction, thorough=True)
        self.__dict__.pop("copies", None)  # of those before
        return encode(self.everything, encoder, self.workdir, self.settings.extraction)

    def encoder(self, modality: str, with_rankings: bool = True) -> Encoder:
        """The encoder of a modality that is encoded."""
        encoders = self.settings.encoders
        match modality:
            case "speech":
                return speech_encoder(encoders.speech)
            case "image":
                return image_encoder(encoders.image)
            case "text":
                ranked = self.rankings.ranked if with_rankings else {}
                return text_encoder(encoders.text, ranked, self.settings.ranking.template)
        assert self.tuned_encoder, "video features need trained prompts"
        return self.tuned_encoder()

    def problems(self, features: Mapping[str, Features]) -> list[Problem]:
        """All that was skipped or degraded, by clip: the data set's problems, and every absence of a modality."""
        absences = [
            Problem(self.clips[position].name, self.clips[position].split, modality, reason)
            for modality, absent in features.items()
            for position, reason in absent.reasons.items()
            if position < len(self.clips)  # behind them are the copies
        ]
        return sorted([*self.dataset.problems, *absences], key=lambda p: (p.name, p.modality or ""))


def run_dataset(settings: InputSettings, workdir: Path) -> Dataset:
    """The data set as every stage of a run sees it: with the test clips corrupted as the settings say.

    Raises:
        DataError: the data set is not there, has nothing to learn from, or is not the one that the workdir's run began
            with.
    """
    with first_host_first("data"):
        dataset = open_dataset(settings.variant, settings.data)
        check_content(dataset)
        check_unchanged(dataset, workdir)
    return corrupt(dataset, settings.corruptions.evaluation, settings.seed)
