"""How CLIP's text tower is asked for the classes (spec: Video), in English or Chinese."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassPrompts:
    """context: words that the learned tokens start from, or that stand in their place.

    text: what follows, `{}` being the class. nouns: what each label is called; others stand as they are.
    """

    context: str
    text: str
    nouns: dict[str, str]


CLASS_PROMPTS = {
    "en-1": ClassPrompts(
        context="a photo of a",
        text="{}.",
        nouns={"angry": "anger", "happy": "happiness", "sad": "sadness", "worried": "worry"},
    ),
    "zh-1": ClassPrompts(
        context="一张人脸照片，情绪是",
        text="{}。",
        nouns={
            "neutral": "平静",
            "angry": "愤怒",
            "happy": "快乐",
            "sad": "悲伤",
            "worried": "担忧",
            "surprise": "惊讶",
        },
    ),
}
