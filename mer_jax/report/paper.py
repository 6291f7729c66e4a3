"""Tables 1 and 2 of the paper, WAF in %, measured on MER2024: printed beside our scores, never as ours."""

from typing import NamedTuple


class Row(NamedTuple):
    """One line of a table, and what identifies the same experiment in a run of ours (if we have one)."""

    model: str
    train_val: str
    test: str
    modalities: tuple[str, ...] = ()  # none: no such run of ours
    modality_dropout: float = 0.0
    ranking: bool = False  # whether the text was read with its ranking; of table 1


TABLE_1 = {
    "Audio": (
        Row("Baseline, HuBERT", "73.02 ± 0.13", "83.42 ± 0.37"),
        Row("Paper, HuBERT", "71.46", "82.13", ("speech",)),
    ),
    "Text": (
        Row("Baseline, Baichuan", "54.86 ± 0.12", "56.63 ± 0.18"),
        Row("Paper, Baichuan", "53.81", "55.44", ("text",)),
        Row("Paper, GPT4-Baichuan", "56.65", "56.84", ("text",), ranking=True),
    ),
    "Vision": (
        Row("Baseline, CLIP", "66.66 ± 0.12", "63.27 ± 0.29"),
        Row("Paper, CLIP", "61.96", "60.02", ("image",)),
        Row("Paper, EmoVCLIP", "68.43", "61.08", ("video",)),
        Row("Paper, CLIP + EmoVCLIP", "66.83", "64.18", ("image", "video")),
    ),
}

_ALL = ("speech", "image", "text", "video")
TABLE_2 = (  # all but the baseline with self-training
    Row("Baseline", "80.34 ± 0.10", "86.32 ± 0.22"),
    Row("Paper without EmoVCLIP, dropout 0", "82.64", "88.68", ("speech", "image", "text"), 0.0),
    Row("Paper, dropout 0", "84.25", "89.52", _ALL, 0.0),
    Row("Paper, dropout 0.15", "84.04", "89.87", _ALL, 0.15),
    Row("Paper, dropout 0.3", "83.76", "90.15", _ALL, 0.3),
    Row("Paper, dropout 0.5", "82.34", "89.08", _ALL, 0.5),
)
