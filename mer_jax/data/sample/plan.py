"""Who says what: every clip of the bundled sample, drawn from one seed before any is made.

All that makes the sample easy or hard is in the constants of this file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Flag, auto

import numpy as np

from mer_jax.data.sample.cues import EMOTIONS
from mer_jax.data.sample.persons import Person, random_person
from mer_jax.data.sample.sentences import sentence
from mer_jax.runtime.errors import UsageError

# First word of every seed. The pretraining scripts seed their generators without it: the encoders have met
# neither this cast nor these clips.
STREAM = 2024
PERSONS = 20
FRAME_RATE = 8  # per second
SECONDS = (1.0, 3.0)

SHARES = {"neutral": 26, "angry": 24, "happy": 20, "sad": 11, "worried": 14, "surprise": 4}  # MER2023, %
VALENCES = {"neutral": 0.0, "angry": -3.0, "happy": 3.0, "sad": -3.0, "worried": -2.0, "surprise": 0.5}


@dataclass(frozen=True)
class Reliability:
    """How often a modality shows its clip's emotion clearly, how often weakly; else it shows another one."""

    clear: float
    weak: float


SPEECH = Reliability(clear=0.82, weak=0.10)
FACE = Reliability(clear=0.54, weak=0.22)
TEXT = Reliability(clear=0.66, weak=0.22)
SCENE = Reliability(clear=0.45, weak=0.35)
CLEAR = (0.6, 1.0)  # range of intensities
VOICE_STRENGTH = 1.4  # voices of different people differ more than their faces do: emotion has to be louder
WEAK = (0.1, 0.35)
MISTAKEN_FOR = {  # what a conflicting cue shows
    "neutral": ("sad", "happy"),
    "angry": ("worried", "surprise"),
    "happy": ("surprise", "neutral"),
    "sad": ("neutral", "worried"),
    "worried": ("angry", "sad"),
    "surprise": ("happy", "worried"),
}


class Defect(Flag):
    """What is wrong with a clip, as it is with some clips of the real data."""

    NONE = 0
    SILENT = auto()  # a sound track of zeros
    NO_SOUND_TRACK = auto()
    NO_FACE = auto()  # an empty room; no crops in the clip's file of crops
    NO_CROPS = auto()  # no file of crops
    NO_TRANSCRIPT = auto()
    NO_VIDEO_STREAM = auto()
    TRUNCATED = auto()
    MISNAMED = auto()  # the row has no clip, and the clip, under another name, has no row


DEFECTS = {  # clips in a sample of DEFAULT_CLIPS; smaller samples have fewer, but at least one of each
    Defect.SILENT: 8,
    Defect.NO_SOUND_TRACK: 6,
    Defect.NO_FACE: 5,
    Defect.NO_FACE | Defect.NO_CROPS: 5,
    Defect.NO_TRANSCRIPT: 10,
    Defect.TRUNCATED: 1,
    Defect.NO_VIDEO_STREAM | Defect.NO_CROPS: 1,
}
LABELLED_DEFECT = Defect.MISNAMED
CANDIDATE_DEFECT = Defect.SILENT | Defect.NO_FACE | Defect.NO_TRANSCRIPT | Defect.TRUNCATED  # nothing is left
DEFAULT_CLIPS = 1500
FEWEST_CLIPS = 12  # labelled, and others: room for the defects


@dataclass(frozen=True)
class SampleSpec:
    """How many clips of each kind, and the seed of everything about them."""

    labelled: int = 400
    unlabelled: int = 800
    test: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        candidates = self.unlabelled + self.test
        if min(self.labelled, candidates) < FEWEST_CLIPS or min(self.unlabelled, self.test) < 0:
            raise UsageError(
                f"a sample of {self.labelled} labelled, {self.unlabelled} unlabelled and {self.test} test "
                f"clips: at least {FEWEST_CLIPS} labelled and {FEWEST_CLIPS} others are needed"
            )

    @property
    def splits(self) -> dict[str, int]:
        return {"train": self.labelled, "unlabeled": self.unlabelled, "test": self.test}

    @property
    def total(self) -> int:
        return self.labelled + self.unlabelled + self.test


@dataclass(frozen=True)
class Cue:
    """What one modality shows; its emotion is not the clip's where modalities conflict."""

    emotion: str
    intensity: float  # 0 shows nothing, 1 is the emotion at full strength

    @property
    def clear(self) -> bool:
        return self.intensity >= CLEAR[0]


@dataclass(frozen=True)
class ClipPlan:
    """All that is decided about a clip before it is made."""

    name: str
    media: str  # stem of its media file: the name, unless the clip is misnamed
    split: str
    emotion: str
    valence: float
    person: int
    num_frames: int
    speech: Cue
    face: Cue
    text: Cue
    scene: Cue
    chinese: str
    english: str
    defect: Defect
    seed: int


def draw_cast(spec: SampleSpec) -> tuple[Person, ...]:
    """The persons, who appear in all splits: MER's clips are not split by speaker either."""
    return tuple(random_person(np.random.default_rng((STREAM, spec.seed, i))) for i in range(PERSONS))


def draw_plans(spec: SampleSpec) -> tuple[ClipPlan, ...]:
    """Plans all clips, in the order of their names, which tell nothing about split or emotion."""
    rng = np.random.default_rng((STREAM, spec.seed))
    splits = [split for split, size in spec.splits.items() for _ in range(size)]
    emotions = [emotion for size in spec.splits.values() for emotion in draw_emotions(size, rng)]
    defects = draw_defects(splits, rng)
    numbers = rng.permutation(spec.total + 1).tolist()  # one more than rows: the misnamed clip's
    names = [f"sample_{number:08d}" for number in numbers]
    plans = []
    for name, split, emotion, defect in zip(names, splits, emotions, defects, strict=False):
        text = draw_cue(emotion, TEXT, rng)
        chinese, english = sentence(text.emotion, text.clear, rng)
        if Defect.NO_TRANSCRIPT in defect:
            chinese = english = ""
        seconds = SECONDS[0] + (SECONDS[1] - SECONDS[0]) * rng.beta(1.5, 3.5)
        plans.append(
            ClipPlan(
                name=name,
                media=names[-1] if Defect.MISNAMED in defect else name,
                split=split,
                emotion=emotion,
                valence=round(VALENCES[emotion] + rng.normal(0, 0.5), 2),
                person=int(rng.integers(PERSONS)),
                num_frames=round(seconds * FRAME_RATE),
                speech=draw_cue(emotion, SPEECH, rng),
                face=draw_cue(emotion, FACE, rng),
                text=text,
                scene=draw_cue(emotion, SCENE, rng),
                chinese=chinese,
                english=english,
                defect=defect,
                seed=int(rng.integers(2**63)),
            )
        )
    return tuple(sorted(plans, key=lambda plan: plan.name))


def draw_emotions(size: int, rng: np.random.Generator) -> list[str]:
    """`size` emotions in the proportions of SHARES (largest remainder), shuffled."""
    exact = np.array([SHARES[emotion] for emotion in EMOTIONS]) * size / sum(SHARES.values())
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: size - counts.sum()]] += 1
    return rng.permutation(np.repeat(EMOTIONS, counts)).tolist()


def draw_defects(splits: Sequence[str], rng: np.random.Generator) -> list[Defect]:
    """One entry per clip, most of them `Defect.NONE`."""
    defects = [Defect.NONE] * len(splits)
    free = rng.permutation(len(splits)).tolist()
    labelled = next(i for i in free if splits[i] == "train")
    candidate = next(i for i in free if splits[i] != "train")
    defects[labelled], defects[candidate] = LABELLED_DEFECT, CANDIDATE_DEFECT
    free = [i for i in free if i not in (labelled, candidate)]
    for defect, count in DEFECTS.items():
        for _ in range(max(1, round(count * len(splits) / DEFAULT_CLIPS))):
            defects[free.pop()] = defect
    return defects


def draw_cue(emotion: str, reliability: Reliability, rng: np.random.Generator) -> Cue:
    """What a modality shows in a clip of this emotion; each modality draws on its own."""
    luck, other = rng.random(), str(rng.choice(MISTAKEN_FOR[emotion]))
    clear, weak = rng.uniform(*CLEAR), rng.uniform(*WEAK)
    if luck < reliability.clear:
        return Cue(emotion, clear)
    if luck < reliability.clear + reliability.weak:
        return Cue(emotion, weak)
    return Cue(other, clear)
