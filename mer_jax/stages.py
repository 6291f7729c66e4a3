"""The steps that the commands share: a data set, its faces, its rankings, its features."""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mer_jax.data.challenges import read_mer
from mer_jax.data.clips import Absent, Clip, Dataset, Problem
from mer_jax.data.corruptions import check_settings, corrupt
from mer_jax.data.decoding import identity, time_limit
from mer_jax.data.detect import FaceDetector
from mer_jax.data.faces import crop_clip
from mer_jax.data.folder import COLUMNS, read_folder
from mer_jax.data.prepared import read_prepared
from mer_jax.data.sample.generate import SampleSpec, is_written, write_sample
from mer_jax.data.workers import map_in_workers
from mer_jax.features.embeddings import Embedded
from mer_jax.features.encoders import Encoder, image_encoder, speech_encoder, text_encoder
from mer_jax.features.extraction import extract
from mer_jax.features.ready_made import ready_made
from mer_jax.features.store import FeatureStore
from mer_jax.fusion.folds import make_folds
from mer_jax.models.fusion import MODALITIES
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.files import cache_folder, dump_json, load_json, write_whole
from mer_jax.runtime.hosts import first_host_first, meet, own_part
from mer_jax.runtime.progress import progress
from mer_jax.text.annotators import Rankings, make_annotator, rank_all

FACE_SIZE = 128  # pixels


@dataclass(frozen=True)
class Features:
    """One modality of every clip of a list: embeddings [N, D], or [F, N, D] with a row per fold; zeros where absent."""

    embeddings: Embedded
    present: np.ndarray  # [N] bool
    reasons: Mapping[int, str]  # position -> why it is absent


def open_dataset(config: Any) -> Dataset:
    """The data set that a config names; the sample is written when it is not there yet."""
    data, labels = config.data, tuple(config.data.get("labels", ()))
    if config.variant == "sample":
        spec = SampleSpec(labelled=data.labelled, unlabelled=data.unlabelled, test=data.test)
        root = cache_folder() / f"sample-{data.labelled}-{data.unlabelled}-{data.test}"
        if not is_written(root, spec):
            with progress("writing the sample", spec.total, "clip") as bar:
                write_sample(root, spec, bar.update)
        return read_mer(root, "mer2024", labels, name="bundled sample")
    root = Path(data.root).expanduser()
    if config.variant == "prepared":
        return read_prepared(root)
    folders = {modality: data.get(f"{modality}_feature") for modality in MODALITIES}
    features = {modality: folder for modality, folder in folders.items() if folder}
    if config.variant == "folder":
        columns = {column: data[f"{column}_column"] for column in COLUMNS}
        return read_folder(root, columns, features)
    return read_mer(root, config.variant, labels, features)


def run_dataset(config: Any, workdir: Path) -> Dataset:
    """The data set as every stage of a run sees it: with the test clips corrupted as the config says.

    Raises:
        DataError: it is not the one that the workdir's run began with.
    """
    for settings in (config.corruptions.training, config.corruptions.evaluation):
        check_settings(settings, MODALITIES)
    dataset = open_dataset(config)
    check_unchanged(dataset, workdir)
    return corrupt(dataset, config.corruptions.evaluation, config.seed)


def check_unchanged(dataset: Dataset, workdir: Path) -> None:
    """Keeps a digest of the clips, which folds and pseudo-labels go by, in the workdir, and compares it later."""
    known = [(clip.name, clip.split, clip.label, clip.group) for clip in dataset.clips]
    digest = hashlib.blake2b(json.dumps(known, ensure_ascii=False).encode(), digest_size=8).hexdigest()
    path = workdir / "dataset.json"
    if not (workdir / "config.json").exists():  # no stage is done yet
        dump_json(path, {"clips": len(known), "digest": digest})
    elif load_json(path)["digest"] != digest:
        raise DataError(
            f"{workdir}: its run began with other clips, splits, labels or groups than {dataset.name} has now: "
            "choose another --workdir, or remove it"
        )


def labelled_folds(dataset: Dataset, config: Any, workdir: Path) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Positions of the labelled clips, their labels [N], and the fold [N] that holds each out.

    The folds are the same for every stage of a run, and kept as `folds.csv`.

    Raises:
        DataError: no clip is labelled.
    """
    labelled = dataset.split("train")
    if not labelled:
        raise DataError(f"{config.data.get('root', 'the data set')}: no labelled clip; training needs labels")
    clips = [dataset.clips[i] for i in labelled]
    truth = np.array([dataset.labels.index(clip.label) for clip in clips])
    groups = np.array([clip.group or clip.name for clip in clips])
    fold_of = make_folds(truth, config.cv.folds, config.seed, groups)
    with write_whole(workdir / "folds.csv") as file:
        file.write("name,fold\n")
        file.writelines(f"{clip.name},{fold}\n" for clip, fold in zip(clips, fold_of, strict=True))
    return labelled, truth, fold_of


def chosen_modalities(config: Any) -> tuple[str, ...]:
    """The modalities that the config asks for; all where it does not say."""
    wanted = config.data.get("modalities", "")
    chosen = wanted.split("+") if wanted else MODALITIES
    unknown = [modality for modality in chosen if modality not in MODALITIES]
    if unknown:
        raise UsageError(f"modalities: unknown {unknown[0]!r}; known: {'+'.join(MODALITIES)}")
    return tuple(modality for modality in MODALITIES if modality in chosen)


def find_faces(clips: Sequence[Clip], folder: Path, config: Any) -> list[Clip]:
    """Clips with their aligned face crops: the data set's own where a clip has them, else detected into `folder`.

    Crops are uint8 BGR [T, 128, 128, 3] as OpenFace's are; none at all for a clip without a face. A clip that cannot be
    searched says why, and is tried again at the next start; one whose file has changed is searched again.
    """
    wanting = [clip for clip in clips if clip.media and not clip.faces]  # a prepared clip brings its crops
    if not wanting:
        return list(clips)
    paths = {clip.name: folder / clip.name / f"{clip.name}.npy" for clip in wanting}
    own = own_part(wanting)
    missing = [clip for clip in own if not is_cut(clip, paths[clip.name])]
    with progress("faces", len(own), "clip") as bar:
        bar.update(len(own) - len(missing))
        for clip, found in zip(missing, cut_faces(missing, config), strict=True):
            bar.update(1)
            if isinstance(found, Absent):
                for outdated in (paths[clip.name], face_count(paths[clip.name])):
                    outdated.unlink(missing_ok=True)
                dump_json(face_failure(paths[clip.name]), {"reason": str(found)})
            else:
                crops, without = found
                with write_whole(paths[clip.name], mode="wb") as file:
                    np.save(file, crops[..., ::-1], allow_pickle=False)
                counts = {"with": len(crops), "without": without, "of": identity(clip.media)}
                dump_json(face_count(paths[clip.name]), counts)
    meet("faces")
    return [with_faces(clip, paths[clip.name]) if clip.name in paths else clip for clip in clips]


def is_cut(clip: Clip, crops: Path) -> bool:
    """Whether the crops are there, and of the clip's file as it is now."""
    return face_count(crops).exists() and load_json(face_count(crops))["of"] == identity(clip.media)


def with_faces(clip: Clip, crops: Path) -> Clip:
    """The clip with its crops, or with the reason why there are none."""
    if crops.exists():
        return replace(clip, faces=crops)
    return replace(clip, no_faces=load_json(face_failure(crops))["reason"])


def face_failure(crops: Path) -> Path:
    """Where it is kept why a clip could not be searched: read by all hosts."""
    return crops.with_name("failure.json")


def face_count(crops: Path) -> Path:
    """Where it is kept how many frames had a face, beside a clip's crops."""
    return crops.with_name("frames.json")


def faces_found(clips: Sequence[Clip]) -> dict[str, int] | None:
    """Clips and frames that `find_faces` has searched, and those without a face; None where it searched none."""
    paths = [face_count(clip.faces) for clip in clips if clip.faces]
    counts = [load_json(path) for path in paths if path.exists()]
    if not counts:
        return None
    return {
        "clips": len(counts),
        "clips_without": sum(not count["with"] for count in counts),
        "frames": sum(count["with"] + count["without"] for count in counts),
        "frames_without": sum(count["without"] for count in counts),
    }


def cut_faces(clips: Sequence[Clip], config: Any) -> Iterator[tuple[np.ndarray, int] | Absent]:
    """Of each clip with media: crops uint8 RGB [T, S, S, 3] and frames without the main face; or why there are none."""
    settings = config.extraction
    return map_in_workers(
        partial(crop_clip, size=FACE_SIZE, most_frames=settings.most_face_frames),
        clips,
        lambda clip: time_limit(clip, settings.time_limit),
        count=settings.workers,
        answer=FaceDetector().find,
    )


def rank_transcripts(clips: Sequence[Clip], labels: Sequence[str], settings: Any, dry_run: bool = False) -> Rankings:
    """The rankings of every distinct transcript, by the annotator and from the cache of `config.ranking`."""
    annotator = make_annotator(settings)
    if annotator is None:
        return Rankings.none()
    folder = Path(settings.cache).expanduser() if settings.cache else cache_folder() / "rankings"
    return rank_all([clip.transcript for clip in clips], labels, annotator, folder, dry_run)


def write_rankings(path: Path, clips: Sequence[Clip], rankings: Rankings) -> None:
    """Each clip's ranking, or why it has none, as csv."""
    with write_whole(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "ranking", "reason"))
        for clip in clips:
            ranking = ">".join(rankings.ranked.get(clip.transcript, ()))
            reason = rankings.failures.get(clip.transcript, "") if clip.transcript else "no transcript"
            writer.writerow((clip.name, ranking, reason))


def frame_level_encoder(config: Any, modality: str, rankings: Mapping[str, Sequence[str]]) -> Encoder:
    """The encoder of a modality that needs no training: speech, image or text."""
    settings = config.encoders[modality]
    if modality == "speech":
        return speech_encoder(settings)
    if modality == "image":
        return image_encoder(settings)
    return text_encoder(settings, rankings, config.ranking.template)


def encode(config: Any, workdir: Path, clips: Sequence[Clip], encoder: Encoder) -> Features:
    """Features of every clip, from the store where they are there already. Zeros with a reason where absent."""
    folder = workdir / "features" / f"{encoder.modality}-{encoder.fingerprint}"
    settings = config.extraction
    with progress(f"{encoder.modality} features", len(own_part(clips)), "clip") as bar:
        extract(
            clips,
            encoder,
            FeatureStore(folder),
            shard_size=settings.shard_clips,
            workers=settings.workers,
            time_limit=settings.time_limit,
            advance=bar.update,
        )
    meet(folder.name)
    return stored(FeatureStore(folder), [encoder.key(clip) for clip in clips])


def stored(store: FeatureStore, keys: Sequence[str]) -> Features:
    """The features under `keys`, left on disk."""
    embeddings, present = store.rows(keys)
    return Features(embeddings, present, {i: store.reasons[key] for i, key in enumerate(keys) if not present[i]})


def modality_features(
    config: Any, workdir: Path, clips: Sequence[Clip], modality: str, rankings: Mapping[str, Sequence[str]]
) -> Features:
    """Features of a modality that needs no training; the data set's own where it has them."""
    if config.data.get(f"{modality}_feature"):
        return load_ready_made(config, workdir, clips, modality)
    return encode(config, workdir, clips, frame_level_encoder(config, modality, rankings))


def load_ready_made(config: Any, workdir: Path, clips: Sequence[Clip], modality: str) -> Features:
    """Features that the data set brings, pooled once into a store."""
    with first_host_first(modality), progress(f"{modality} features", len(clips), "clip") as bar:
        store = FeatureStore(workdir / "features" / f"{modality}-ready-made")
        keys = ready_made(clips, modality, store, shard_size=config.extraction.shard_clips, advance=bar.update)
    return stored(store, keys)


def absences(clips: Sequence[Clip], features: Mapping[str, Features]) -> list[Problem]:
    """A problem for every clip and modality that is absent; rows behind those of `clips` are copies of them."""
    return [
        Problem(clips[position].name, clips[position].split, modality, reason)
        for modality, found in features.items()
        for position, reason in found.reasons.items()
        if position < len(clips)
    ]
