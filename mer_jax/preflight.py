"""Before any work: all that can be known to go wrong later, on one page, in seconds and without any weights.

Every check is what the work itself would stumble over, or a function beside that; the order is that of the page.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax

from mer_jax.checkpoints.hub import Plan, lack_of_space, plan
from mer_jax.checkpoints.weight_files import weight_files
from mer_jax.data.clips import Dataset
from mer_jax.data.crops import check_room_for_crops
from mer_jax.data.dataset import known_dataset
from mer_jax.data.votes import check_votes
from mer_jax.features.encoders import check_encoders
from mer_jax.features.inputs import check_modalities, check_transcripts, encoded_of, labelled_streams
from mer_jax.features.memory import check_memory, encoder_memory
from mer_jax.features.stream_settings import Stream
from mer_jax.fusion.folds import check_folds
from mer_jax.runtime.devices import device_bytes, local_mesh
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.findings import Finding, findings_of, tell
from mer_jax.settings import Settings
from mer_jax.text.rankings import check_annotator
from mer_jax.text.transcripts import check_transcriber
from mer_jax.tuning.memory import tuning_memory
from mer_jax.tuning.prompts import PromptTuning

Check = Callable[[], Iterable[str] | None]


def preflight(
    settings: Settings, workdir: Path, encoded: Sequence[str], learns: bool = True, weights: bool = True
) -> Dataset | None:
    """Prints what `look_over` finds, and gives the data set; None for a sample that is yet to be written.

    Raises:
        DataError: the command would fail.
    """
    dataset, findings = look_over(settings, workdir, encoded, learns, weights)
    tell(findings)
    return dataset


def look_over(
    settings: Settings, workdir: Path, encoded: Sequence[str], learns: bool = True, weights: bool = True
) -> tuple[Dataset | None, list[Finding]]:
    """The data set, and everything that is known of what a command will meet.

    Args:
        workdir: of the run.
        encoded: the modalities that the command encodes, of those that the settings choose.
        learns: whether it trains on the labels.
        weights: whether it loads the encoders, or looks at their small files alone.
    """
    datasets = list[Dataset]()

    def opened() -> None:
        datasets.extend(
            filter(None, [known_dataset(settings.variant, settings.data, settings.ready_made, settings.own_modalities)])
        )

    findings = list(findings_of(opened))
    checks = list[Check]()
    for dataset in datasets:
        encoded = [name for name in encoded if name in encoded_of(dataset.clips, settings)]
        checks += data_checks(dataset, settings, workdir, encoded, learns)
    labels = datasets[0].labels if datasets else settings.data.labels
    checks += encoder_checks(settings, workdir, encoded, labels if learns else (), weights)
    findings += [finding for check in checks for finding in findings_of(check)]
    return datasets[0] if datasets else None, findings


def data_checks(
    dataset: Dataset, settings: Settings, workdir: Path, encoded: Sequence[str], learns: bool
) -> Iterator[Check]:
    """Of clips, labels and transcripts."""
    if learns:
        modalities = dict.fromkeys(settings.modality_of[name] for name in labelled_streams(dataset, settings))
        yield partial(check_folds, dataset, settings.cv, settings.seed, tuple(modalities))
        yield partial(check_modalities, dataset, settings)
        yield partial(check_votes, settings.votes, dataset)
    if "image" in encoded:
        yield partial(check_room_for_crops, dataset.clips, workdir / "faces", settings.extraction)
    yield partial(check_transcripts, dataset, settings)
    if "text" in encoded:
        transcripts = [clip.transcript for clip in dataset.clips]
        yield partial(check_annotator, settings.ranking, transcripts, dataset.labels)
        if settings.transcribes:
            yield partial(check_transcriber, settings.transcripts, settings.extraction)


def encoder_checks(
    settings: Settings, workdir: Path, encoded: Sequence[str], labels: Sequence[str], weights: bool
) -> Iterator[Check]:
    """Of checkpoints: whether they can be had, are as their ports expect, and fit the disk and the device.

    labels: that prompts are trained for; none where they are not.
    """
    streams = {name: each for name, each in settings.encoded_streams.items() if each.modality in encoded}
    sources = {name: each.source for name, each in streams.items()}
    if "text" in encoded and settings.ranking.annotator == "local":
        sources["ranking"] = settings.ranking.local.source
    plans = {each.source: each for each in plan(sources.values(), weights)}
    for problem in joined(each for each in plans.values() if each.problem):
        yield partial(refuse, problem)
    if lack := lack_of_space(plans.values()):
        yield partial(refuse, lack)
    yield lambda: [f"to be fetched: {each}" for each in plans.values() if each.files]
    for each in streams.values():
        if not plans[each.source].problem:
            yield partial(encoder_check, settings, workdir, each, plans[each.source], weights)
    if labels and "video" in encoded and not plans[sources["video"]].problem:
        yield partial(tuning_check, settings, workdir, labels)


def refuse(problem: str) -> None:
    raise DataError(problem)


def joined(plans: Iterable[Plan]) -> list[str]:
    """One line for each kind of problem, with all the checkpoints that have it."""
    alike = defaultdict[str, list[Plan]](list)
    for each in plans:
        alike[each.problem.removeprefix(each.source).partition(" (")[0]].append(each)
    return [
        ", ".join(each.source for each in same) + same[0].problem.removeprefix(same[0].source)
        for same in alike.values()
    ]


def encoder_check(settings: Settings, workdir: Path, stream: Stream, found: Plan, weights: bool) -> Iterator[str]:
    """Of one stream's encoder."""
    modality, encoders = stream.modality, replace(settings.encoders, **{stream.modality: stream.encoder})
    check_encoders(encoders, [modality])
    if not weights:
        return
    if found.folder is not None:
        weight_files(found.folder)
    if modality == "text":
        local_mesh(encoders.text.model_parallel)
    if not any((workdir / "features").glob(f"{modality}-*/*")):  # else it has worked here before
        needed = encoder_memory(encoders, modality, jax.local_devices()[0].platform)
        yield from check_memory(stream.section, found.source, needed, device_bytes(), modality)


def tuning_check(settings: Settings, workdir: Path, labels: Sequence[str]) -> Iterator[str]:
    """Of EmoVCLIP's prompts."""
    PromptTuning(settings.tune, settings, labels, settings.cv.folds, workdir).check()
    if not (workdir / "checkpoints").exists():
        video, platform = settings.encoders.video, jax.local_devices()[0].platform
        needed = tuning_memory(video, settings.tune, settings.cv.folds, platform)
        yield from check_memory("tune", video.source, needed, device_bytes())
