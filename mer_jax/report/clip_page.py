"""The page of clips: what every clip is, what the run makes of it, and why. Opens from a file, with no network.

The rows are a script beside the page, since a page in a file may fetch nothing else; strips of pictures are files,
which a browser loads when they come into view.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from mer_jax.data.clips import SPLITS, Clip, Dataset
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.data.glimpses import HEIGHT, LEVELS, glimpses
from mer_jax.features.embeddings import Features
from mer_jax.report.templates import environment
from mer_jax.runtime.files import write_through, write_whole
from mer_jax.runtime.progress import progress
from mer_jax.text.rankings import Rankings
from mer_jax.text.transcripts import Transcripts

FOLDER, DATA = "clips", "data.js"


class ClipInputs(NamedTuple):
    """What is known of the clips of a data set, in its order, beside their scores."""

    dataset: Dataset
    clips: Sequence[Clip]  # with crops and transcripts
    features: Mapping[str, Features]
    transcripts: Transcripts
    rankings: Rankings


def write_clip_page(
    inputs: ClipInputs,
    scores: Mapping[str, Any],
    modalities: Sequence[str],
    settings: ExtractionSettings,
    path: Path,
    modality_of: Mapping[str, str] | None = None,
) -> None:
    """Writes the page to `path`, its rows and pictures into FOLDER beside it.

    Args:
        scores: of `clip_scores`.
        modalities: that the run fused.
        modality_of: stream -> modality, of the features; by default each modality has one, called as it is.
    """
    inputs = inputs._replace(features=of_modalities(inputs.features, modality_of or {}))
    folder = path.with_name(FOLDER)
    shutil.rmtree(folder, ignore_errors=True)  # what a killed start has left may not be whole
    folder.mkdir(parents=True)
    rows = clip_rows(inputs, scores, modalities)
    clips = [inputs.clips[row["at"]] for row in rows]
    with progress("clips at a glance", len(clips), "clip") as bar:
        for number, (row, seen) in enumerate(zip(rows, glimpses(clips, settings), strict=True)):
            row |= {"outline": seen.outline, "seconds": round(seen.seconds, 1)}
            if seen.strip:
                row["strip"] = [f"{number:05d}.jpg", seen.width]
                with open(folder / row["strip"][0], "wb", buffering=0) as file:  # thousands: the disk is not waited for
                    write_through(file, seen.strip)
            bar.update(1)
    for row in rows:
        del row["at"]
    content = {
        "labels": inputs.dataset.labels,
        "modalities": modalities,
        "height": HEIGHT,
        "levels": LEVELS,
        "transcriber": inputs.transcripts.transcriber,
        "annotator": inputs.rankings.annotator,
        "clips": rows,
    }
    script = json.dumps(content, separators=(",", ":")).replace("<", r"\u003c")  # ASCII, without markup
    with write_whole(folder / DATA) as file:
        file.write(f"const DATA = {script};\n")
    counts = inputs.dataset.counts()
    with write_whole(path) as file:
        file.write(
            environment()
            .get_template("clips.html")
            .render(
                dataset=inputs.dataset,
                modalities=modalities,
                shown=len(rows),
                total=sum(counts.values()),
                splits=[split for split in SPLITS if counts[split]],
            )
        )


def of_modalities(features: Mapping[str, Features], modality_of: Mapping[str, str]) -> dict[str, Features]:
    """What clips have of each modality: any of its streams, or the reasons why they have none. No embeddings."""
    merged: dict[str, Features] = {}
    for stream, own in features.items():
        if earlier := merged.get(modality := modality_of.get(stream, stream)):
            present = earlier.present | own.present
            reasons = {**own.reasons, **earlier.reasons}
            own = replace(own, present=present, reasons={i: why for i, why in reasons.items() if not present[i]})
        merged[modality] = own
    return merged


def clip_rows(inputs: ClipInputs, scores: Mapping[str, Any], modalities: Sequence[str]) -> list[dict[str, Any]]:
    """Of each clip that is shown: its place `at` in the data set, and what JSON can hold of it."""
    dataset, label_at = inputs.dataset, {label: i for i, label in enumerate(inputs.dataset.labels)}
    rows = []
    for split in SPLITS:
        places = dataset.split(split)
        if split == "train":  # those without any modality were not trained on
            places = [i for i in places if any(inputs.features[m].present[i] for m in modalities)]
        own = scores[split]
        for number, position in enumerate(own["positions"]):
            i = places[position]
            clip = inputs.clips[i]
            label = dataset.clips[i].label or dataset.truth.get(clip.name)
            reasons = {m: inputs.features[m].reasons.get(i, "") for m in modalities}
            row = {
                "at": i,
                "name": clip.name,
                "split": split,
                "label": label_at.get(label, -1) if label else -1,
                "probs": own["probs"][number],
                "attention": own["attention"][number],
                "subsets": {name: best[number] for name, best in own["subsets"].items() if best[number]},
                "missing": {m: reason for m, reason in reasons.items() if not inputs.features[m].present[i]},
            }
            if clip.transcript:
                ranking = inputs.rankings.ranked.get(clip.transcript, ())
                row |= {"text": clip.transcript, "ranking": [label_at[each] for each in ranking]}
                row |= {"heard": 1} if i in inputs.transcripts.given else {}
            rows.append(row)
    return rows
