"""Opening a data set: the settings that name one, in each of the layouts, and the clips that they lead to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mer_jax.data.challenges import MER_FILES, read_mer
from mer_jax.data.clips import INTENDED, Dataset, unknown_modalities, valid_modalities, wrong_modalities
from mer_jax.data.folder import COLUMNS, read_folder
from mer_jax.data.prepared import read_prepared
from mer_jax.data.sample.generate import SampleSpec, is_written, write_sample
from mer_jax.defaults import MODALITIES
from mer_jax.runtime.disk import check_room
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import cache_folder
from mer_jax.runtime.kept import Damaged, keep, read_kept
from mer_jax.runtime.progress import progress
from mer_jax.runtime.settings import few, setting

LABELS = ("neutral", "angry", "happy", "sad", "worried", "surprise")


@dataclass(frozen=True)
class DataSettings:
    """What every data set has: `config.data`."""

    labels: tuple[str, ...] = setting(LABELS, wrong=partial(few, least=2))  # of the challenges; a folder brings its own
    audio_track: str = setting("")  # of the media: number from 0 or language ("eng"); empty: FFmpeg's best
    modalities: str = setting("", wrong=unknown_modalities)  # "+"-joined; empty: all that the data set can give
    # Those that count for unlabelled and test clips, whatever their files hold; empty, or "all": all.
    candidate_modalities: str = setting("", wrong=wrong_modalities)

    @staticmethod
    def among(settings: Mapping[str, Any]) -> type["DataSettings"]:
        """The class that the `variant` beside it names."""
        return VARIANTS.get(settings.get("variant", "sample"), DataSettings)

    @property
    def chosen_modalities(self) -> tuple[str, ...]:
        """The modalities that are asked for, in the order of MODALITIES."""
        chosen = self.modalities.split("+") if self.modalities else MODALITIES
        return tuple(modality for modality in MODALITIES if modality in chosen)

    @property
    def ready_made(self) -> dict[str, str]:
        """Modality -> the folder of its ready-made features, where it has one."""
        folders = {modality: getattr(self, f"{modality}_feature", "") for modality in MODALITIES}
        return {modality: folder for modality, folder in folders.items() if folder}


@dataclass(frozen=True)
class SampleData(DataSettings):
    """The bundled sample: clips of each split."""

    labelled: int = setting(400, least=2)
    unlabelled: int = setting(800, least=0)
    test: int = setting(300, least=0)


@dataclass(frozen=True)
class RootData(DataSettings):
    """A challenge's folder, or a prepared data set."""

    root: str = setting("")


@dataclass(frozen=True)
class FeaturedData(RootData):
    """A data set that may bring features: what the challenge's baseline makes."""

    speech_feature: str = setting("")
    image_feature: str = setting("")
    text_feature: str = setting("")
    video_feature: str = setting("")


@dataclass(frozen=True)
class FolderData(FeaturedData):
    """Anyone's folder with `clips.csv`, and that table's names for its columns."""

    label_column: str = setting("label")
    split_column: str = setting("split")
    group_column: str = setting("group")
    text_column: str = setting("text")
    file_column: str = setting("file")
    modalities_column: str = setting("modalities")  # which of a clip's modalities count, "+"-joined; empty: all


VARIANTS: dict[str, type[DataSettings]] = {
    "sample": SampleData,
    "mer2024": RootData,
    "mer2025": RootData,
    "mer2026": RootData,
    "processed": FeaturedData,
    "prepared": RootData,
    "folder": FolderData,
}


def open_dataset(variant: str, settings: DataSettings) -> Dataset:
    """The data set of a variant (see VARIANTS); the sample is written when it is not there yet.

    Raises:
        DataError: it is not there, or not in its layout.
    """
    dataset = valid_dataset(read_dataset(variant, settings), valid_modalities(settings.candidate_modalities))
    if not settings.audio_track:
        return dataset
    if any(clip.prepared for clip in dataset.clips):
        raise DataError(f"{dataset.name}: its sound was chosen when it was prepared: leave data.audio_track empty")
    return replace(dataset, clips=tuple(replace(clip, audio_track=settings.audio_track) for clip in dataset.clips))


def read_dataset(variant: str, settings: DataSettings) -> Dataset:
    """The data set as its layout has it."""
    if isinstance(settings, SampleData):
        return open_sample(settings)
    assert isinstance(settings, RootData)
    root = Path(settings.root).expanduser()
    if isinstance(settings, FolderData):
        columns = {column: getattr(settings, f"{column}_column") for column in COLUMNS}
        return read_folder(root, columns, settings.ready_made)
    if variant in MER_FILES:
        return read_mer(root, variant, settings.labels, settings.ready_made)
    return read_prepared(root)


def valid_dataset(dataset: Dataset, candidates: tuple[str, ...] | None) -> Dataset:
    """Every clip with what counts for it alone. candidates: what counts for unlabelled and test clips; None: all."""
    clips = [clip.showing(clip.modalities) for clip in dataset.clips]
    return replace(dataset, clips=tuple(clip if clip.split == "train" else clip.showing(candidates) for clip in clips))


def known_dataset(variant: str, settings: DataSettings) -> Dataset | None:
    """The data set, looked over before any work; None for a sample that is yet to be written.

    Raises:
        DataError: it is not there, not in its layout, or has nothing to learn from; or there is no room for a sample.
    """
    if isinstance(settings, SampleData) and not is_written(*sample_place(settings)):
        root, spec = sample_place(settings)
        check_room(root, spec.total * SAMPLE_CLIP_BYTES, f"the {spec.total:,} clips of the sample")
        return None
    dataset = open_dataset(variant, settings)
    check_content(dataset)
    return dataset


SAMPLE_CLIP_BYTES = 600_000  # about
SAMPLE_WARNINGS = (
    "the sample's persons occur in all its splits: no score on it is one of new persons",
    "most of the sample's transcripts (69 % of its 300 test clips') stand, without labels, in the text that the "
    "bundled decoder was trained on",
)


def open_sample(settings: SampleData) -> Dataset:
    """The bundled sample, from the cache folder."""
    root, spec = sample_place(settings)
    if not is_written(root, spec):
        with progress("writing the sample", spec.total, "clip") as bar:
            write_sample(root, spec, bar.update)
    dataset = read_mer(root, "mer2024", settings.labels, name="bundled sample")
    problems = tuple(replace(problem, reason=f"{problem.reason} ({INTENDED})") for problem in dataset.problems)
    return replace(dataset, problems=problems, warnings=SAMPLE_WARNINGS)


def sample_place(settings: SampleData) -> tuple[Path, SampleSpec]:
    """Where a sample is, or will be, and what is in it."""
    spec = SampleSpec(settings.labelled, settings.unlabelled, settings.test)
    return cache_folder() / f"sample-{spec.labelled}-{spec.unlabelled}-{spec.test}", spec


def check_content(dataset: Dataset) -> None:
    """Raises DataError where no clip has anything to learn from."""
    if not any(c.media or c.faces or c.features or c.prepared or c.transcript for c in dataset.clips):
        rows = f"{len(dataset.clips):,} clips, {dataset.clips[0].name!r} first" if dataset.clips else "no clips"
        raise DataError(f"{dataset.name}: neither media nor features nor texts of its {rows}: nothing to learn from")


def check_unchanged(dataset: Dataset, workdir: Path) -> None:
    """Keeps a digest of the clips, which folds and pseudo-labels go by, in the workdir, and compares it later.

    Raises:
        DataError: the workdir's run began with another data set.
    """
    path = workdir / "dataset.json"
    if not (workdir / "config.json").exists():  # no stage is done yet
        keep(path, {"clips": len(dataset.clips), "digest": dataset.digest})
        return
    try:
        digest = read_kept(path, earlier=True, parse=lambda saved: saved["digest"])
    except Damaged as error:
        raise DataError(f"{error}; put it back as it was, or start another run") from error
    if digest != dataset.digest:
        raise DataError(
            f"{path}: its run began with other clips, splits, labels or groups than {dataset.name} has now: "
            "choose another --workdir, or remove it"
        )
