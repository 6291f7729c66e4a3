"""The recognizer of a run in its workdir."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mer_jax.data.clips import Dataset
from mer_jax.features.inputs import Inputs
from mer_jax.fusion.ensemble import TrainedEnsemble
from mer_jax.recognition.distance import FAMILIAR, Familiar
from mer_jax.recognition.hearing import hearing
from mer_jax.recognition.recognizer import Recognizer
from mer_jax.runtime.files import cache_folder
from mer_jax.runtime.inventory import require_results
from mer_jax.runtime.run import load_settings
from mer_jax.settings import Settings
from mer_jax.text.rankings import make_annotator, rank_all
from mer_jax.tuning.prompts import PromptTuning


def finished_settings(workdir: Path) -> Settings:
    """The settings of a run. Raises DataError where it is not finished, or not as it was written."""
    settings = load_settings(Settings, workdir)
    require_results(workdir)
    return settings


def load_recognizer(workdir: Path) -> Recognizer:
    """See `Recognizer.load`."""
    settings = finished_settings(workdir)
    ensemble = TrainedEnsemble(workdir / "checkpoints")
    labels = ensemble.shape.labels
    prompts = PromptTuning(settings.tune, settings, labels, ensemble.shape.num_folds, workdir)
    inputs = Inputs(Dataset("input", labels, (), {}), settings, workdir, prompts.trained_encoder)
    encoders = {m: inputs.encoder(m) for m in ensemble.shape.dims if m in settings.encoded}
    annotator = make_annotator(settings.ranking) if "text" in encoders else None
    answers = Path(settings.ranking.cache).expanduser() if settings.ranking.cache else cache_folder() / "rankings"

    def rank(transcripts: Sequence[str]) -> Mapping[str, Sequence[str]]:
        return rank_all(transcripts, labels, annotator, answers).ranked if annotator else {}

    familiar = Familiar.load(workdir / "checkpoints" / FAMILIAR)
    track, caution, at_home = settings.data.audio_track, "; ".join(settings.drawn), settings.variant == "sample"
    heard = hearing(settings)
    return Recognizer(ensemble, encoders, rank, settings.extraction, track, familiar, caution, at_home, heard)
