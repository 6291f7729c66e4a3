"""Media -> emotions: a finished run's ensemble on files that nobody labelled, one JSON line per file.

python -m mer_jax.predict --workdir=RUN --input=clip.mp4 [--input=folder] [--text="..."]
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from mer_jax.data.clip_files import MEDIA_SUFFIXES
from mer_jax.data.clips import Clip
from mer_jax.data.media import Unreadable, opened
from mer_jax.fusion.trained import Shape, TrainedEnsemble
from mer_jax.runtime import cli
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.run import load_config
from mer_jax.stages import Features, encode, find_faces, modality_features, rank_transcripts
from mer_jax.tune import prompted_encoder

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)
INPUT = flags.DEFINE_multi_string("input", None, "Media file, or folder of media files.", required=True)
TEXT = flags.DEFINE_string("text", "", "Transcript of the input.")


def main() -> None:
    """The command."""
    if TEXT.value and len(INPUT.value) > 1:
        raise UsageError("--text is the transcript of one file: give a single --input with it")
    paths = list(media(INPUT.value))
    if TEXT.value and len(paths) > 1:
        raise UsageError(f"--text is the transcript of one file, but {INPUT.value[0]} holds {len(paths)}")
    readable = []
    for path in paths:
        try:
            with opened(path):
                readable.append(path)
        except Unreadable as reason:
            print(json.dumps({"file": str(path), "error": str(reason)}, ensure_ascii=False))
    for line in predict(Path(WORKDIR.value), readable, TEXT.value) if readable else ():
        print(json.dumps(line, ensure_ascii=False))
    if len(readable) < len(paths):
        raise DataError(f"{len(paths) - len(readable)} of {len(paths)} files cannot be decoded")


def media(inputs: Sequence[str]) -> Iterator[Path]:
    """The media files that the inputs name."""
    for entry in map(Path, inputs):
        if entry.is_dir():
            found = [path for path in sorted(entry.iterdir()) if path.suffix.lower() in MEDIA_SUFFIXES]
            if not found:
                raise DataError(f"{entry}: no media file in it (looked for {' '.join(MEDIA_SUFFIXES)})")
            yield from found
        elif entry.exists():
            yield entry
        else:
            raise DataError(f"{entry}: no such file or folder")


def predict(workdir: Path, paths: Sequence[Path], text: str = "") -> Iterator[dict[str, Any]]:
    """For each file: label, probabilities, attention per modality, what was used and why the rest was not."""
    config = load_config(workdir)
    ensemble = TrainedEnsemble(workdir / "checkpoints")
    labels = ensemble.shape.labels
    with tempfile.TemporaryDirectory() as scratch:
        features = features_of(config, workdir, paths, text, ensemble.shape, Path(scratch))
        probs, attention = ensemble(
            {modality: found.embeddings for modality, found in features.items()},
            {modality: found.present for modality, found in features.items()},
        )
    for i, path in enumerate(paths):
        yield {
            "file": str(path),
            "label": labels[int(probs[i].argmax())],
            "probabilities": {label: round(float(p), 4) for label, p in zip(labels, probs[i], strict=True)},
            "attention": {m: round(float(a), 4) for m, a in zip(features, attention[i], strict=True)},
            "used": [modality for modality, found in features.items() if found.present[i]],
            "absent": {modality: found.reasons[i] for modality, found in features.items() if i in found.reasons},
        }


def features_of(
    config: Any, workdir: Path, paths: Sequence[Path], text: str, shape: Shape, scratch: Path
) -> dict[str, Features]:
    """Each modality of the ensemble, encoded as the run encoded it."""
    clips = [Clip(f"{i:06d}", "test", media=path, transcript=text) for i, path in enumerate(paths)]
    reads_text = bool(text) and "text" in shape.dims and not config.data.get("text_feature")
    rankings = rank_transcripts(clips, shape.labels, config.ranking).ranked if reads_text else {}
    features = {}
    for modality, width in shape.dims.items():
        if config.data.get(f"{modality}_feature"):
            reasons = dict.fromkeys(range(len(clips)), "the run used ready-made features")
            features[modality] = Features(np.zeros((len(clips), 0)), np.zeros(len(clips), bool), reasons)
        elif modality == "video":
            encoder = prompted_encoder(config, workdir, shape.labels)
            features[modality] = encode(config, scratch, clips, encoder)
        else:
            if modality == "image":
                clips = find_faces(clips, scratch / "faces", config)
            features[modality] = modality_features(config, scratch, clips, modality, rankings)
        if not features[modality].present.any():  # nothing has told the width
            nothing = np.zeros((len(clips), width), np.float32)
            features[modality] = replace(features[modality], embeddings=nothing)
    return features


if __name__ == "__main__":
    cli.run(main)
