"""What each stream of a run is worth: alone, to the whole, and beside the others."""

from collections.abc import Mapping, Sequence

import numpy as np

from mer_jax.fusion.cross_validation import CrossValidation, TrainedSetting
from mer_jax.report.results import Section, by_label, stream_attention
from mer_jax.runtime.files import finite


def stream_section(
    fusion: CrossValidation, run: TrainedSetting, alone: Mapping[str, TrainedSetting], labels: Sequence[str]
) -> Section | None:
    """`schema.Streams`; None where there is one stream. alone: what was trained on a stream alone, by its name."""
    data = fusion.data
    streams, owners = [*data.modality_of], [*data.modality_of.values()]
    if len(streams) < 2:
        return None
    alone = {
        stream: each for stream, each in alone.items() if not each.diverged and data.modality_of[stream] in data.shown
    }
    right = {each: fusion.held_out_logits(alone[each].fitted).argmax(axis=-1) == data.labels for each in alone}
    section: Section = {"modality_of": dict(data.modality_of)}
    if len(set(owners)) < len(owners):
        section["attention"] = by_label(data, stream_attention(fusion, run), streams, labels)
    section["worth"] = [
        {
            "stream": stream,
            "clips": int(data.labelled.present[stream].sum()),
            "cv_waf": float(alone[stream].cv_waf.mean()) if stream in alone else None,
            "cv_std": float(alone[stream].cv_waf.std()) if stream in alone else None,
            "test_waf": alone[stream].test_waf if stream in alone else None,
            "without_waf": waf_without(fusion, run, stream),
        }
        for stream in streams
    ]
    section["correlation"] = {a: {b: together(fusion, right, a, b) for b in right if b != a} for a in right}
    return finite(section)


def waf_without(fusion: CrossValidation, run: TrainedSetting, stream: str) -> float | None:
    """Honest WAF of the run's networks where a stream is hidden; None where it always is, or nothing is left."""
    clips = fusion.data.labelled.only(fusion.data.shown)
    rest = clips.without(stream)
    if not clips.present[stream].any() or not any(x.any() for x in rest.present.values()):
        return None
    return float(fusion.fold_wafs(fusion.held_out_of(run, rest)).mean())


def together(fusion: CrossValidation, right: Mapping[str, np.ndarray], a: str, b: str) -> float | None:
    """Correlation of being right [L] of two streams' networks, over the clips that have both."""
    present = fusion.data.labelled.present
    both = present[a] & present[b]
    pair = np.stack([right[a][both], right[b][both]]).astype(float)
    return float(np.corrcoef(pair)[0, 1]) if both.any() and (pair.std(axis=1) > 0).all() else None
