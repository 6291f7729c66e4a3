"""What the persons of the sample say: a small grammar of Chinese sentences with English translations."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources

import numpy as np

# Symbol -> its templates (Chinese, English), in which {name} stands for another symbol.
Grammar = Mapping[str, Sequence[Sequence[str]]]


@cache
def grammar() -> Grammar:
    """The sample's; its start symbols are the emotions and `ambiguous`."""
    return json.loads(resources.files("mer_jax.data.sample").joinpath("sentences.json").read_text("utf-8"))


def sentence(emotion: str, clear: bool, rng: np.random.Generator) -> tuple[str, str]:
    """A transcript, Chinese and English.

    Args:
        emotion: one of `cues.EMOTIONS`.
        clear: whether the wording carries the emotion; otherwise it would fit any.
    """
    return expand(grammar(), emotion if clear else "ambiguous", rng)


def expand(grammar: Grammar, symbol: str, rng: np.random.Generator) -> tuple[str, str]:
    """A random sentence, Chinese and English, that `grammar` derives from `symbol`."""
    chinese, english = derive(grammar, symbol, rng)
    return chinese, english[0].upper() + english[1:]


def derive(grammar: Grammar, symbol: str, rng: np.random.Generator) -> tuple[str, str]:
    """As `expand`, for a phrase. A slot that a template repeats is filled the same way everywhere."""
    templates = grammar[symbol]
    chinese, english = templates[int(rng.integers(len(templates)))]
    fillings = {slot: derive(grammar, slot, rng) for slot in dict.fromkeys(re.findall(r"{(\w+)}", chinese))}
    chinese = chinese.format_map({slot: filling[0] for slot, filling in fillings.items()})
    english = english.format_map({slot: filling[1] for slot, filling in fillings.items()})
    return chinese, english
