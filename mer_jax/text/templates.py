"""How a ranking and a transcript become the one text that Baichuan reads (paper, section 3.4).

The paper's wording is unpublished. Templates are versioned by name: a changed wording is a new name, so that
cached features never mix two wordings.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Template:
    """text: with the fields {ranking} and {transcript}; names: what each label is called in it.

    first: how many labels of a ranking it names; None names them all.
    """

    text: str
    separator: str
    names: dict[str, str]
    first: int | None = None


CHINESE = {"neutral": "中性", "angry": "生气", "happy": "开心", "sad": "难过", "worried": "担心", "surprise": "惊讶"}

TEMPLATES = {
    "zh-1": Template(
        text="情绪从最可能到最不可能：{ranking}。文本：{transcript}",
        separator="、",
        names=CHINESE,
    ),
    "en-1": Template(
        text="Emotions from most to least likely: {ranking}. Text: {transcript}",
        separator=", ",
        names={},
    ),
    # For the local annotator: the transcript comes first, so that the model is asked for the label.
    "zh-ask-1": Template("文本：{transcript}\n说话人的情绪是：{ranking}", "、", CHINESE, first=1),
    "en-ask-1": Template("Text: {transcript}\nThe speaker's emotion: {ranking}", ", ", {}, first=1),
}


def join(ranking: Sequence[str] | None, transcript: str, template: str) -> str:
    """The text that the language model reads.

    ranking: labels, most likely first; None (no usable ranking) gives the transcript alone.
    template: a key of TEMPLATES. Labels that a template has no name for stand as they are.
    """
    if ranking is None:
        return transcript
    chosen = TEMPLATES[template]
    ranked = chosen.separator.join(chosen.names.get(label, label) for label in ranking[: chosen.first])
    return chosen.text.format(ranking=ranked, transcript=transcript)
