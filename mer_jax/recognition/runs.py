"""The recognizer of a run in its workdir."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mer_jax.checkpoints.config_classes import COMPLETE
from mer_jax.data.clips import Dataset
from mer_jax.features.inputs import Inputs
from mer_jax.features.stream_settings import StreamSettings
from mer_jax.fusion.ensemble import TrainedEnsemble
from mer_jax.recognition.distance import FAMILIAR, Familiar
from mer_jax.recognition.hearing import hearing
from mer_jax.recognition.recognizer import Recognizer
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import cache_folder, load_json
from mer_jax.runtime.inventory import require_results
from mer_jax.runtime.kept import read_kept
from mer_jax.runtime.run import load_settings
from mer_jax.settings import Settings
from mer_jax.text.rankings import make_annotator, rank_all
from mer_jax.tuning.prompts import PromptTuning

CONFIGS = "configs.json"  # of a run that is handed on: the complete configs of its checkpoints


def finished_settings(workdir: Path) -> Settings:
    """The settings of a run, with the commits of the encoders that it used.

    Raises:
        DataError: it is not finished, or not as it was written.
    """
    settings = load_settings(Settings, workdir)
    require_results(workdir)
    with suppress(DataError):  # an earlier version's, which has none
        settings = pinned(settings, load_json(workdir / "metrics.json"))
    return settings


def pinned(settings: Settings, metrics: Mapping[str, Any]) -> Settings:
    """With encoders from the hub at the commits that a run's metrics name, whatever their names stand for by now."""
    sources = settings.encoded_streams
    for name, used in metrics.get("checkpoints", {}).items():
        encoder = sources[name].encoder if name in sources else None
        if encoder and used.get("commit") and used.get("source") == encoder.source:
            encoder = replace(encoder, source=f"{encoder.source.partition('@')[0]}@{used['commit']}")
            if isinstance(encoder, StreamSettings):
                settings = replace(settings, streams={**settings.streams, name: encoder})
            else:
                settings = replace(settings, encoders=replace(settings.encoders, **{name: encoder}))
    return settings


def load_recognizer(workdir: Path) -> Recognizer:
    """See `Recognizer.load`."""
    settings = finished_settings(workdir)
    if (workdir / CONFIGS).exists():
        COMPLETE.update(read_kept(workdir / CONFIGS))
    ensemble = TrainedEnsemble(workdir / "checkpoints")
    labels = ensemble.shape.labels
    prompts = PromptTuning(settings.tune, settings, labels, ensemble.shape.num_folds, workdir)
    inputs = Inputs(Dataset("input", labels, (), {}), settings, workdir, prompts.trained_encoder)
    encoders = {name: inputs.encoder(name) for name in ensemble.shape.dims if name in settings.encoded_streams}
    reads = any(encoder.modality == "text" for encoder in encoders.values())
    annotator = make_annotator(settings.ranking) if reads else None
    answers = Path(settings.ranking.cache).expanduser() if settings.ranking.cache else cache_folder() / "rankings"

    def rank(transcripts: Sequence[str]) -> Mapping[str, Sequence[str]]:
        return rank_all(transcripts, labels, annotator, answers).ranked if annotator else {}

    familiar = Familiar.load(workdir / "checkpoints" / FAMILIAR, ensemble.shape.dims)
    track, caution, at_home = settings.data.audio_track, "; ".join(settings.drawn), settings.variant == "sample"
    heard = hearing(settings)
    return Recognizer(ensemble, encoders, rank, settings.extraction, track, familiar, caution, at_home, heard)
