"""A finished run's encoders and ensemble, loaded and compiled once, for any number of files.

Nothing is written to disk, and no modality waits for another: each file is decoded once, for all of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from mer_jax.data.clips import NOT_VALID, Absent, Clip
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.data.detect import FaceDetector
from mer_jax.data.recording import Contents, Wanted
from mer_jax.data.streams import Unreadable
from mer_jax.features.embeddings import Embedded, Features
from mer_jax.features.encoders import Encoder
from mer_jax.features.extraction import Dispatch
from mer_jax.features.outliers import without_outliers
from mer_jax.features.readers import Chunk, TextReader
from mer_jax.fusion.ensemble import TrainedEnsemble
from mer_jax.recognition.contents import read_ahead, read_files
from mer_jax.recognition.distance import Familiar
from mer_jax.recognition.files import File

SHARD = 256  # files whose lines appear together: every one ends in batches that are not full
FAR = 1.2  # root mean square of a file's distances (see `Cloud`); 2 of the sample's 300 test clips are further
FEW = 8  # files for which batches are as small as they may be

Rank = Callable[[Sequence[str]], Mapping[str, Sequence[str]]]  # transcripts -> those that are ranked, and their labels


class Recognizer:
    """What `mer_jax.predict` prints, as objects. Threads may share it.

    Args:
        ensemble: the fusion heads.
        encoders: by modality; one of the ensemble's that has none is absent from every file.
        rank: called with distinct transcripts, one call at a time.
        extraction: how files are decoded.
        audio_track: see `read_sound`.
        familiar: what the training clips are like; None where that is not known.
        caution: what to know of labels of clips unlike those of the training data, if there is anything.
        at_home: whether the caution is none for clips like these, as of drawings by encoders for drawings.
        hear: gives files their transcripts, where the run made some of the sound.
    """

    def __init__(
        self,
        ensemble: TrainedEnsemble,
        encoders: Mapping[str, Encoder],
        rank: Rank,
        extraction: ExtractionSettings,
        audio_track: str = "",
        familiar: Familiar | None = None,
        caution: str = "",
        at_home: bool = False,
        hear: Callable[[Sequence[File]], Sequence[File]] | None = None,
    ):
        self.ensemble, self.encoders, self.rank = ensemble, dict(encoders), rank
        self.extraction, self.audio_track = extraction, audio_track
        self.familiar, self.caution, self.at_home, self.hear = familiar, caution, at_home, hear
        self.programs = {modality: encoder.load() for modality, encoder in self.encoders.items()}
        self.detector = FaceDetector(extraction.face_stride)
        self.ranking = Lock()  # the answers' cache has one writer

    @classmethod
    def load(cls, run: str | Path) -> "Recognizer":
        """That of a finished run of `mer_jax.train`, or of what `mer_jax.export` has made of one.

        run: its folder, or the name of a repository of the hub.

        Raises:
            DataError: it is not finished, or not as it was written.
        """
        from mer_jax.recognition.runs import load_recognizer  # brings what trains, too

        if not Path(run).exists() and str(run).count("/") == 1:
            from mer_jax.recognition.hub import pull

            run = pull(str(run))
        return load_recognizer(Path(run))

    def __call__(self, paths: Any, text: Any = "") -> Any:
        """Emotions of one media file, or of each of several.

        Args:
            paths: of the file, or a sequence of such.
            text: what is said in it; of several files one text each.

        Returns:
            Of each file `file`, `label`, `probabilities` by label, `attention` by modality, `used` modalities, `absent`
            ones with the reason and, where it is unlike what the run has learned from, `warning`. Of one that cannot be
            used `error`, and no label.
        """
        if isinstance(paths, str | Path):
            return self.batch([File(Path(paths), text)])[0]
        texts = [text] * len(paths) if isinstance(text, str) else text
        return self.batch([File(Path(path), spoken) for path, spoken in zip(paths, texts, strict=True)])

    def batch(self, files: Sequence[File]) -> list[dict[str, Any]]:
        """The line of each file, in order; what is wrong with one is said in its line."""
        return [line for lines in self.shards(files) for line in lines]

    def shards(
        self, files: Sequence[File], contents: Iterator[Contents | Absent] | None = None, size: int = 0
    ) -> Iterator[list[dict[str, Any]]]:
        """The lines of one shard of files after the other; a shard's are the same whatever came before it.

        contents: of the files, if they are read already. size: files in a shard, by default `shard_size`.
        """
        if contents is None:
            contents = read_files(files, self.audio_track, self.wanted(), self.extraction, self.detector.find)
        size, ahead = size or self.shard_size(files), read_ahead(contents)
        for start in range(0, len(files), size):
            yield self.lines(files[start : start + size], islice(ahead, size))
        ahead.close()

    def shard_size(self, files: Sequence[File]) -> int:
        """SHARD, or all where a file's group counts."""
        grouped = self.ensemble.shape.in_groups and any(file.group for file in files)
        return len(files) if grouped else SHARD

    def wanted(self, most_faces: int = 0) -> Wanted:
        """What is read of a file. most_faces: frames that are searched for faces; 0: as the run did."""
        speech, video = self.encoders.get("speech"), self.encoders.get("video")
        return Wanted(
            speech.reader.sample_rate if speech else None,
            video.reader.num_frames if video else None,
            (most_faces or self.extraction.most_face_frames) if "image" in self.encoders else None,
        )

    def lines(
        self, files: Sequence[File], contents: Iterator[Contents | Absent], small: bool = False
    ) -> list[dict[str, Any]]:
        """The lines of a shard's files, whose contents come one by one. small: as of `Dispatch`, also of many files."""
        ranked: Mapping[str, Sequence[str]] = {}
        if self.hear and "text" in self.encoders:
            with self.ranking:
                files = self.hear(files)
        if "text" in self.encoders and (texts := sorted({file.text for file in files} - {""})):
            with self.ranking:
                ranked = self.rank(texts)
        shards = {
            modality: Dispatch(encoder, self.programs[modality], small=small or len(files) <= FEW)
            for modality, encoder in self.encoders.items()
        }
        errors: dict[int, str] = {}
        for i, (file, content) in enumerate(zip(files, contents, strict=True)):
            if isinstance(content, Unreadable):
                errors[i] = str(content)
            for modality, shard in shards.items():
                shard.add(i, self.chunks(modality, file, content, ranked))
        for shard in shards.values():
            shard.finish()
        features = {
            modality: self.features(modality, shards[modality].embeddings() if modality in shards else {}, len(files))
            for modality in self.ensemble.shape.dims
        }
        present = {modality: x.present for modality, x in features.items()}
        embeddings = {modality: x.embeddings for modality, x in features.items()}
        probs, attention = self.ensemble(embeddings, present, [file.group for file in files])
        warnings = self.warnings(embeddings, present)
        labels = self.ensemble.shape.labels
        lines = []
        for i, file in enumerate(files):
            absent = {modality: x.reasons[i] for modality, x in features.items() if i in x.reasons}
            if i in errors:
                lines.append({**file.named, "error": errors[i]})
                continue
            if len(absent) == len(features):
                lines.append({**file.named, "error": "nothing in it can be used", "absent": absent})
                continue
            line = {
                **file.named,
                "label": labels[int(probs[i].argmax())],
                "probabilities": {label: round(float(p), 4) for label, p in zip(labels, probs[i], strict=True)},
                "attention": {m: round(float(a), 4) for m, a in zip(features, attention[i], strict=True)},
                "used": [modality for modality, x in features.items() if x.present[i]],
                "absent": absent,
            }
            lines.append(line | {"warning": warnings[i]} if warnings[i] else line)
        return lines

    def warnings(self, embeddings: Mapping[str, Embedded], present: Mapping[str, np.ndarray]) -> list[str]:
        """For each file what to know before its label is trusted, if there is anything."""
        if not self.familiar:
            return [self.caution] * len(next(iter(present.values())))
        warnings = []
        for i, distances in enumerate(self.familiar.distances(embeddings, present)):
            together = np.sqrt(np.mean(np.square([*distances.values()]))) if distances else 0.0
            far = [f"{modality} {x:.1f}" for modality, x in distances.items() if x > 1 and together > FAR]
            usual = frozenset(modality for modality, x in present.items() if x[i]) in self.familiar.combinations
            unlike = f"unlike what the run has learned from ({', '.join(far)} times as far as that)" if far else ""
            caution = "" if self.at_home and usual and not far else self.caution
            warnings.append("; ".join(filter(None, (unlike, caution))))
        return warnings

    def chunks(
        self, modality: str, file: File, content: Contents | Absent, ranked: Mapping[str, Sequence[str]]
    ) -> list[Chunk] | Absent:
        """A file's chunks for one encoder, or why there are none. content: see `read_files`."""
        reader = self.encoders[modality].reader
        if modality in file.hidden and not isinstance(content, Unreadable):
            return Absent(NOT_VALID)
        try:
            if isinstance(reader, TextReader) and not isinstance(content, Unreadable):
                reader = replace(reader, rankings=ranked)
                return reader.chunks(reader.read(Clip("", "test", transcript=file.text)))
            array = content if isinstance(content, Absent) else content[modality]
            return array if isinstance(array, Absent) else reader.chunks(array)
        except Absent as reason:
            return Absent(str(reason))  # without the traceback, which would hold the arrays

    def features(self, modality: str, embeddings: Mapping[int, np.ndarray | str], count: int) -> Features:
        """What an encoder has given for `count` files, as of a data set's clips."""
        reasons = {i: entry for i, entry in embeddings.items() if isinstance(entry, str)}
        reasons |= dict.fromkeys({*range(count)} - {*embeddings}, "no ready-made feature")
        rows = {i: entry for i, entry in embeddings.items() if not isinstance(entry, str)}
        shape: tuple[int, ...] = next((row.shape for row in rows.values()), (self.ensemble.shape.dims[modality],))
        array = np.zeros((count, *shape), np.float32)
        for i, row in rows.items():
            array[i] = row
        if array.ndim == 3:  # by each fold's prompts, or by those of all
            array = array[:, 0] if shape[0] == 1 else array.swapaxes(0, 1)
        features = Features(array, np.array([i in rows for i in range(count)], bool), reasons)
        return without_outliers(features, modality, self.ensemble.shape.usual_sizes.get(modality, 0.0))
