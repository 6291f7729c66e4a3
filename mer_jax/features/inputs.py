"""The one seam between a data set and a run: which clips there are, and what each modality of them is.

Only `Inputs` decides whether a modality is ready-made, encoded or tuned, whether faces have to be found, and whether
anything reads a ranking of the transcripts.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import jax
import numpy as np

from mer_jax.data.clips import NOT_VALID, Clip, Dataset, Problem
from mer_jax.data.corruptions import corrupt, corrupted_copies
from mer_jax.data.crops import find_faces
from mer_jax.data.dataset import check_content, check_unchanged, open_dataset
from mer_jax.features.embeddings import Features, of_valid
from mer_jax.features.encoder_settings import POOLING, ImageSettings, SpeechSettings, TextSettings
from mer_jax.features.encoders import Encoder, image_encoder, speech_encoder, text_encoder
from mer_jax.features.extraction import encode
from mer_jax.features.input_settings import InputSettings
from mer_jax.features.ready_made import load_ready_made
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.hosts import first_host_first, is_first_host, meet
from mer_jax.runtime.kept import Damaged, digest_of, make_again
from mer_jax.text.rankings import Rankings, rank_transcripts
from mer_jax.text.transcripts import Transcripts, check_transcriber, transcribe_clips

CHINESE = re.compile("[\u3400-\u9fff]")
NO_TEXT = (
    "no clip has a transcript: text stays absent; --config.transcripts.transcriber=whisper, or openai, makes "
    "transcripts of the sound"
)


@dataclass
class Inputs:
    """A run's clips, their corrupted copies and rankings, and the features of both, stream by stream.

    `tuned_encoder` gives the video encoder, whose prompts are trained on the labelled clips; it is called only when
    video features are asked for. None where they are not.
    """

    dataset: Dataset
    settings: InputSettings
    workdir: Path  # of the run, where crops and features are kept
    tuned_encoder: Callable[[], Encoder] | None = None

    @cached_property
    def transcripts(self) -> Transcripts:
        """The data set's, and where the settings say so, those that are made from the sound of clips without one."""
        if not self.settings.transcribes:
            return Transcripts("none", self.dataset.clips)
        own = self.settings.transcripts
        with first_host_first("transcripts"):
            waits = leaves_asking(own.transcriber)
            transcripts = transcribe_clips(self.dataset.clips, own, self.settings.extraction, waits)
        meet("the cache's transcripts", digest_of([clip.transcript for clip in transcripts.clips]))
        return transcripts

    @cached_property
    def clips(self) -> list[Clip]:
        """The data set's clips, with their transcripts, and face crops where these are encoded."""
        if "image" not in self.settings.encoded:
            return list(self.transcripts.clips)
        return find_faces(self.transcripts.clips, self.workdir / "faces", self.settings.extraction)

    @property
    def encoded(self) -> tuple[str, ...]:
        """The modalities that are encoded of some clip."""
        return encoded_of(self.dataset.clips, self.settings)

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
        clips = self.transcripts.clips
        if not self.settings.reads_rankings or not any(clip.transcript for clip in clips):
            return Rankings.none()
        own = self.settings.ranking
        with first_host_first("rankings"):
            rankings = rank_transcripts(clips, self.dataset.labels, own, leaves_asking(own.annotator))
        meet("the cache's rankings", digest_of(rankings.ranked))
        return rankings

    def features(self, stream: str, with_rankings: bool = True) -> Features:
        """One stream of the clips, then of the copies, from the workdir where it is there.

        stream: one of those that the settings choose. with_rankings: False reads the bare transcripts.
        """
        workdir, extraction = self.workdir, self.settings.extraction
        modality, own, *_ = self.settings.sources[stream]
        if own is None:
            return of_valid(
                self.everything, modality, lambda clips: load_ready_made(clips, stream, workdir, extraction, modality)
            )
        if modality not in self.encoded:  # no checkpoint is fetched and loaded for nothing
            reason = "no transcript" if modality == "text" else "row without a clip"
            return of_valid(self.everything, modality, lambda clips: Features.none(len(clips), reason))
        encoder = self.encoder(stream, with_rankings)
        try:
            return of_valid(self.everything, modality, lambda clips: encode(clips, encoder, workdir, extraction))
        except Damaged as reason:  # crops, which are compared with what they were when they are read
            if jax.process_count() > 1:
                raise DataError(f"{reason}; remove it, and start the same command again") from reason
            make_again(reason)
        self.clips = find_faces(self.transcripts.clips, workdir / "faces", extraction, thorough=True)
        self.__dict__.pop("copies", None)  # of those before
        return of_valid(self.everything, modality, lambda clips: encode(clips, encoder, workdir, extraction))

    def encoder(self, stream: str, with_rankings: bool = True) -> Encoder:
        """The encoder of a stream that has one."""
        match self.settings.sources[stream].encoder:
            case SpeechSettings() as own:
                encoder = speech_encoder(own)
            case ImageSettings() as own:
                encoder = image_encoder(own)
            case TextSettings() as own:
                ranked = self.rankings.ranked if with_rankings else {}
                encoder = text_encoder(own, ranked, self.settings.ranking.template)
            case _:
                assert self.tuned_encoder, "video features need trained prompts"
                return self.tuned_encoder()
        return encoder if own.pooling == POOLING[0] else replace(encoder, pooling=own.pooling)

    def problems(self, features: Mapping[str, Features]) -> list[Problem]:
        """All that was skipped or degraded, by clip: the data set's problems, and every absence of a stream.

        But for modalities that do not count: see `Dataset.not_valid`.
        """
        absences = [
            Problem(self.clips[position].name, self.clips[position].split, stream, reason)
            for stream, absent in features.items()
            for position, reason in absent.reasons.items()
            if position < len(self.clips) and reason != NOT_VALID  # behind them are the copies
        ]
        return sorted([*self.dataset.problems, *absences], key=lambda p: (p.name, p.modality or ""))


def leaves_asking(who: str) -> bool:
    """Whether this host only reads what the first one has been answered: servers are paid, and answer differently."""
    return who == "openai" and not is_first_host()


def encoded_of(clips: Sequence[Clip], settings: InputSettings) -> tuple[str, ...]:
    """The modalities that are encoded and that any of the clips may have."""
    return tuple(name for name in settings.encoded if any(may_have(clip, name, settings) for clip in clips))


def may_have(clip: Clip, modality: str, settings: InputSettings) -> bool:
    """Whether there is something that a modality can be encoded from, unread."""
    if clip.hides(modality):
        return False
    if modality == "text" and not (settings.transcribes and (clip.media or clip.prepared)):
        return clip.transcript != ""
    return bool(clip.media or clip.prepared or (modality == "image" and clip.faces))


def check_transcripts(dataset: Dataset, settings: InputSettings) -> Iterator[str]:
    """Notes that nothing gives the clips transcripts.

    Raises:
        UsageError: the transcriber cannot be asked.
    """
    if settings.transcribes:
        check_transcriber(settings.transcripts, settings.extraction)
    elif settings.reads_rankings and not any(clip.transcript for clip in dataset.clips):
        yield NO_TEXT


def labelled_streams(dataset: Dataset, settings: InputSettings) -> list[str]:
    """The streams that any of the labelled clips may have."""
    clips = [dataset.clips[i] for i in dataset.split("train")]
    encoded = encoded_of(clips, settings)

    def brought(name: str, modality: str) -> bool:
        return any(name in clip.features and not clip.hides(modality) for clip in clips)

    return [
        name
        for name, stream in settings.sources.items()
        if (stream.modality in encoded if stream.encoder else brought(name, stream.modality))
    ]


def check_modalities(dataset: Dataset, settings: InputSettings) -> Iterator[str]:
    """Notes the modalities that no labelled clip can have, and transcripts in another language than is expected.

    Raises:
        DataError: that leaves none.
    """
    labelled = labelled_streams(dataset, settings)
    lacking = [name for name in settings.sources if name not in labelled]
    if not labelled and dataset.split("train"):
        raise DataError(f"{dataset.name}: no labelled clip has any of {', '.join(lacking)}; see the media files")
    if lacking:
        yield f"no labelled clip has {', '.join(lacking)}: the run goes on without"
    words = "".join(clip.transcript for clip in dataset.clips)
    if settings.reads_rankings and settings.ranking.template.startswith("zh") and words and not CHINESE.search(words):
        yield "no transcript holds a Chinese character, and speech and text are taken for Chinese: language=en?"


def seen_dataset(settings: InputSettings, dataset: Dataset | None = None) -> Dataset:
    """The data set with the test clips corrupted as the settings say. dataset: where it has been opened already."""
    dataset = dataset or open_dataset(settings.variant, settings.data, settings.ready_made, settings.own_modalities)
    return corrupt(dataset, settings.corruptions.evaluation, settings.seed)


def run_dataset(settings: InputSettings, workdir: Path, dataset: Dataset | None = None) -> Dataset:
    """The data set as every stage of a run sees it: `seen_dataset`.

    dataset: where it has been opened already.

    Raises:
        DataError: the data set is not there, has nothing to learn from, or is not the one that the workdir's run began
            with.
    """
    with first_host_first("data"):
        if dataset is None:
            dataset = open_dataset(settings.variant, settings.data, settings.ready_made, settings.own_modalities)
            check_content(dataset)
        check_unchanged(dataset, workdir)
    return seen_dataset(settings, dataset)
