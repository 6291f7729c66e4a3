"""A TFDS data set of prepared clips: ArrayRecord files that are built and read without TensorFlow.

A clip's record holds its sound, sampled whole frames and aligned face crops. Shards are written one by one and
whole, so that a build that was killed goes on where it ended; Apache Beam runs the same function on each shard.
"""

import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from functools import partial
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder
from tensorflow_datasets.proto import tf_example_pb2

from mer_jax.data.clips import SPLITS, Absent, Clip, Dataset
from mer_jax.data.decoding import identity
from mer_jax.data.detect import map_with_detector
from mer_jax.data.prepared import DESCRIPTION, FILES, INDEX, INDEX_COLUMNS, VALID, check_files
from mer_jax.data.records import RecordSettings, lost, prepare_clip
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.files import csv_text, write_whole
from mer_jax.runtime.hosts import in_step, is_first_host, meet, own_part
from mer_jax.runtime.kept import blake2b, changed_in, digests_in, file_digests, keep, usable

FEATURES = tfds.features.FeaturesDict(
    {
        "id": tfds.features.Text(),
        "waveform": tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes"),  # mono, 16 kHz
        "frames": tfds.features.Sequence(tfds.features.Scalar(np.object_)),  # JPEG files, evenly spaced
        "faces": tfds.features.Sequence(tfds.features.Scalar(np.object_)),  # JPEG files, aligned, one per frame
        "frames_without_face": tfds.features.Scalar(np.int32),
        "transcript": tfds.features.Text(),
        "label": tfds.features.Text(),  # "" unless the clip is in the train split
        "absent": tfds.features.Text(),  # JSON: modality -> reason
        "provenance": tfds.features.Text(),  # JSON: file, bytes, sha256
    }
)


@dataclass(frozen=True)
class Shard:
    """Some clips, and the file that shall hold their records."""

    clips: tuple[Clip, ...]
    path: Path
    settings: RecordSettings


def write_shard(shard: Shard, advance: Callable[[int], object] = lambda count: None) -> None:
    """Writes one file of records, whole or not at all, unless it is there."""
    digest = shard.path.with_suffix(".json")
    if shard.path.exists() and usable(digest) == {"digests": file_digests([shard.path])}:
        advance(len(shard.clips))
        return
    job = partial(prepare_clip, settings=shard.settings)
    examples = map_with_detector(job, shard.clips, shard.settings.extraction)
    with write_whole(shard.path, mode="wb", own=True) as file:
        writer = ArrayRecordWriter(file.name, "group_size:1")
        for clip, example in zip(shard.clips, examples, strict=True):
            row = {"id": clip.name, "transcript": clip.transcript, "label": clip.label or ""}
            record = lost(example) if isinstance(example, Absent) else example
            writer.write(serialized(row | record))
            advance(1)
        writer.close()
    keep(digest, {"digests": file_digests([shard.path])}, own=True)


def serialized(record: Mapping[str, Any]) -> bytes:
    """A clip's record. TFDS leaves the order of its fields to chance, which differs from process to process."""
    example = tf_example_pb2.Example.FromString(FEATURES.serialize_example(record))
    return example.SerializeToString(deterministic=True)


def clip_fingerprint(clip: Clip, settings: RecordSettings) -> str:
    """Of all that a clip's record depends on."""
    parts = [clip.name, clip.label, clip.transcript, identity(clip.media), identity(clip.faces), settings.content]
    parts += [clip.audio_track] * bool(clip.audio_track)
    parts += [] if clip.modalities is None else ["+".join(clip.modalities)]
    return hashlib.blake2b(json.dumps(parts, ensure_ascii=False).encode(), digest_size=8).hexdigest()


class Mer(FileReaderBuilder):
    """Builds `mer/{name}/1.0.0` in `data_dir`; advance is called with numbers of clips as they get done."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        name: str,
        dataset: Dataset,
        settings: RecordSettings,
        data_dir: Path,
        advance: Callable[[int], object] = lambda count: None,
    ):
        self.dataset = dataset
        self.settings = settings
        self.prints = {clip.name: clip_fingerprint(clip, settings) for clip in dataset.clips}
        self.advance = advance
        self.parts = data_dir / ".parts" / name  # shards that are finished, until all are
        config = tfds.core.BuilderConfig(name=name)
        with temporary_files_in(self.parts):
            super().__init__(data_dir=str(data_dir), config=config, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=FEATURES, description="Clips prepared by mer_jax.")

    def _shards(self) -> dict[str, list[Shard]]:
        return {split: self.plan(split) for split in SPLITS if self.dataset.split(split)}

    def _write_own_part(self, shards: Sequence[Shard]) -> None:
        """Writes this host's, and waits for the other hosts'."""
        own = own_part(shards)
        for shard in own:
            write_shard(shard, self.advance)
        meet("shards")
        self.advance(sum(len(shard.clips) for shard in shards) - sum(len(shard.clips) for shard in own))

    def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
        shards = self._shards()
        everything = list(chain(*shards.values()))
        if download_config and download_config.beam_runner:
            run_beam(everything, download_config)
        self._write_own_part(everything)
        infos = []
        for split, split_shards in shards.items():
            template = self._get_filename_template(split)
            for index, shard in enumerate(split_shards):
                os.link(shard.path, template.sharded_filepath(shard_index=index, num_shards=len(split_shards)))
            lengths = [len(shard.clips) for shard in split_shards]
            size = sum(shard.path.stat().st_size for shard in split_shards)
            infos.append(tfds.core.SplitInfo(split, lengths, size, template))
        self.info.set_splits(tfds.core.SplitDict(infos))
        folder = Path(self.data_path)
        for name, content in index_of(self.dataset, self.prints).items():
            with write_whole(folder / name) as file:
                file.write(content)

    def plan(self, split: str) -> list[Shard]:
        """A split's shards. A file's name tells what is in it, so that nothing outdated is taken for finished."""
        clips = tuple(self.dataset.clips[i] for i in self.dataset.split(split))
        shards, shard_clips = [], self.settings.prepare.shard_clips
        for number, start in enumerate(range(0, len(clips), shard_clips)):
            part = clips[start : start + shard_clips]
            prints = "".join(self.prints[clip.name] for clip in part)
            digest = hashlib.blake2b(prints.encode(), digest_size=8).hexdigest()
            path = self.parts / f"{split}-{number:05d}-{digest}.array_record"
            shards.append(Shard(part, path, self.settings))
        return shards

    def build(self, source: Path, beam_runner: str | None = None) -> Path:
        """Builds what is not there yet, all of it where anything has changed; returns the folder of the data set.

        source: where the data set lies, for a message. Of several hosts each writes its part of the shards.
        """
        version = Path(self.data_path)
        outdated = in_step("the prepared data set", lambda: self._outdated(version, source))
        if not is_first_host():
            if outdated is not None:
                self._write_own_part(list(chain(*self._shards().values())))
            meet("prepared")
            return version
        if outdated:
            print(f"{outdated}: made anew", file=sys.stderr)
            shutil.rmtree(version)
        with redirect_stdout(StringIO()), temporary_files_in(self.parts):  # TFDS tells of downloads: there are none
            config = tfds.download.DownloadConfig(beam_runner=beam_runner)
            try:
                self.download_and_prepare(download_dir=self.parts / "downloads", download_config=config)
            except OSError as error:
                error.filename = error.filename or str(version)  # TFDS names none
                raise
        if not (version / FILES).exists():
            digests = digests_in(version)
            keep(
                version / FILES, {"files": {name: ((version / name).stat().st_size, d) for name, d in digests.items()}}
            )
        # What is finished by now, or was begun by TFDS in a start that was killed.
        for leftover in (self.parts, *version.parent.glob(f"incomplete.*_{version.name}")):
            shutil.rmtree(leftover, ignore_errors=True)
        with suppress(OSError):  # another data set's are in it
            self.parts.parent.rmdir()
        meet("prepared")
        return version

    def _outdated(self, version: Path, source: Path) -> str | None:
        """Why the data set has to be made, "" where it is not there; None where it is as it should be."""
        if not version.exists():
            return ""
        expected = index_of(self.dataset, self.prints)
        try:
            check_files(version)
            if changed_in(version, {name: blake2b(text.encode()).hexdigest() for name, text in expected.items()}):
                raise DataError(f"{source} or the settings have changed since {version} was made")
            check_files(version, whole=True)
        except DataError as reason:
            return str(reason)
        return None


@contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Has libraries that never remove their temporary folders, as TFDS and Beam, make them in one that is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def run_beam(shards: Sequence[Shard], download_config: Any) -> None:
    """Writes the shards on a Beam runner, which must see the same folders; one decoding process each."""
    try:
        import apache_beam as beam
    except ImportError as error:
        raise UsageError("--beam needs Apache Beam: pip install 'mer_jax[beam]'") from error
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # it tells of an error that it raises as well
    with beam.Pipeline(runner=download_config.beam_runner, options=download_config.beam_options) as pipeline:
        _ = pipeline | beam.Create(shards) | beam.Reshuffle() | beam.Map(write_shard)


def index_of(dataset: Dataset, prints: Mapping[str, str]) -> dict[str, str]:
    """What is known of the clips without opening their records, in the order of the records: file -> its content."""
    rows, limited = [], any(clip.modalities is not None for clip in dataset.clips)
    for clip in (dataset.clips[i] for split in SPLITS for i in dataset.split(split)):
        truth, group = dataset.truth.get(clip.name, ""), clip.group or ""
        row = clip.name, clip.split, clip.label or "", truth, group, clip.transcript, prints[clip.name]
        valid = "" if clip.modalities is None else "+".join(clip.modalities) or "none"
        rows.append((*row, *[valid] * limited))
    problems = [asdict(problem) for problem in dataset.problems]
    description = {"name": dataset.name, "labels": dataset.labels, "warnings": dataset.warnings, "problems": problems}
    return {
        INDEX: csv_text((*INDEX_COLUMNS, *[VALID] * limited), rows),
        DESCRIPTION: json.dumps(description, ensure_ascii=False, indent=1),
    }
