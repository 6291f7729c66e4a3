"""What `metrics.json` holds: the contract between the main job, which fills it, and the report.

Scores (`waf`, `accuracy`, `ece`, `precision`, ...) are fractions in [0, 1]; `std` and `*_std` are population
standard deviations over folds; times are seconds. Every top-level key but `dataset` and `cv` may be missing
or None, and an optional part says so in the report. A split without known labels has no scores, never zeros.
"""

from typing import NotRequired, TypedDict


class Dataset(TypedDict):
    name: str
    labels: list[str]
    modalities: list[str]  # those the run fused, in the order of the shared vocabulary
    counts: dict[str, int]  # split -> clips
    classes: dict[str, dict[str, int]]  # split -> label -> clips; only splits whose labels are known
    not_valid: NotRequired[dict[str, dict[str, int]]]  # modality -> split -> clips for which it does not count


class ClassScores(TypedDict):
    label: str
    precision: float
    recall: float
    f1: float
    support: int


class Scores(TypedDict):
    waf: float
    accuracy: float
    ece: float  # expected calibration error, of probabilities as the networks give them
    per_class: list[ClassScores]
    confusion: list[list[int]]  # [C, C], rows are the truth, columns the prediction


class Challenge(TypedDict):
    """Cross-validated as the challenge counts, to compare with its tables.

    Every network is taken at the epoch that is best by the clips that it is scored on, and trained with the
    pseudo-labels of the run, which by the paper's way all folds have chosen.
    """

    waf: float
    std: float


class Spread(TypedDict):
    waf: float
    std: float


class CrossValidation(Scores):
    """Every labelled clip, scored once, by a fold that held it out and on which neither it nor its group had a say.

    Where the clips that are predicted have but some modalities, it is scored by these alone, and so is every
    cross-validated score that others are chosen by.
    """

    std: float  # of the folds' WAF; `waf` is their mean
    interval: tuple[float, float] | None  # 95 %, of `waf`, by a bootstrap over groups
    ece_calibrated: float  # with temperatures of the other folds
    challenge: Challenge
    cautions: list[str]  # what a reader should know before trusting the score
    flattered: bool  # whether one of these is that held-out labels had a say after all
    shown: NotRequired[list[str]]  # the modalities by which clips are scored, where these are not all
    all_modalities: NotRequired[Spread]  # the same networks' score by all of them


class Ensemble(Scores):
    """The final ensemble on the test clips."""

    interval: tuple[float, float] | None  # 95 %, of `waf`, by a bootstrap over groups
    ece_calibrated: float
    folds_waf_mean: float  # of the single folds that `cv` scores: what it is to be compared with
    folds_waf_std: float | None  # of the single folds of this ensemble, before averaging logits


class Fold(TypedDict):
    fold: int  # from 1
    waf: float
    challenge_waf: float
    accuracy: float
    best_epochs: list[int]  # of its networks, from 1; what the challenge counts
    train: int  # clips, pseudo-labelled ones included
    validation: int


class Round(TypedDict):
    """One round of self-training: the networks that chose the clips, and the clips they chose.

    Where each fold chooses for itself, numbers of clips are means over the folds, but for `correct` and `known`.

    Its scores are those of the models trained with the clips of *earlier* rounds, so the first round's are
    the scores without self-training. The final ensemble, trained after the last round, is in `cv` and `test`.
    """

    round: int  # from 1
    cv_waf: float
    cv_std: float
    challenge_waf: float
    test_waf: float | None
    added: dict[str, float]  # label -> clips
    confidence: dict[str, float]  # label -> mean probability of the clips added; no entry where none was
    correct: int | None  # of the `known`
    known: int  # added clips whose true label is known
    shortfall: dict[str, float]  # label -> clips missing to k


class Subset(TypedDict):
    """Scores with some of the modalities; as such, those of the final models given only these of each clip."""

    modalities: list[str]
    cv_waf: float
    test_waf: float | None


class SingleModality(Subset):
    """Models trained on these modalities alone; more than one where the paper's Table 1 has such a row."""

    name: str
    ranking: bool  # whether there is text, read with rankings
    cv_std: float
    challenge_waf: float


class Ablation(Subset):
    """The same training with these modalities and switches. The run itself is one of the entries."""

    name: str
    self_training: bool
    modality_dropout: float
    cv_std: float
    challenge_waf: float


class Strip(TypedDict):
    """Frames of a labelled clip, side by side in `frames/{clip}.jpg` beside the page."""

    clip: str
    label: str
    moved: list[float]  # per frame, 1 - cosine of its embeddings without and with prompts


class Video(TypedDict):
    """WAF of whole-frame video alone on held-out labelled clips, mean over folds."""

    mode: str  # whose labels tuned the prompts: "per_fold" or "all_labelled"
    zero_shot: float | None  # frozen CLIP, class names only
    linear_probe: float | None  # frozen CLIP, linear classifier on its features
    tuned: float | None  # EmoVCLIP, the last epoch
    tuned_best: float | None  # as the challenge counts: each fold's best epoch by this very score; not used
    strips: list[Strip]


class Agreement(TypedDict):
    """How often a ranking of the transcript puts the true label first, or among the first two."""

    clips: int
    top1: float | None
    top2: float | None


class Ranking(TypedDict):
    annotator: str  # with model and prompt
    transcripts: int  # distinct ones
    ranked: int
    overall: Agreement  # on the labelled clips
    per_class: dict[str, Agreement]  # by true label
    tokens: dict[str, float]  # mean of a bare "transcript"; what its ranking adds: mean "added", and the "most"
    failures: list["Problem"]  # clips whose transcript went on without ranking


class Transcripts(TypedDict):
    """What was made of the sound of clips that the data set has no transcript for."""

    transcriber: str  # with model and language
    given: int  # clips
    failed: int


class FoldCurves(TypedDict):
    loss: list[list[float]]  # [networks of the folds, epochs], training
    waf: list[list[float]]  # [networks of the folds, epochs], validation


class Problem(TypedDict):
    name: str
    split: str
    modality: str | None  # the one that is absent; None: the whole clip was left out
    reason: str


class Begun(TypedDict):
    """The start that began the run."""

    begun: str  # ISO 8601, UTC
    command: str


class Environment(TypedDict):
    versions: dict[str, str]
    devices: list[str]  # one entry per kind, such as "8 x TPU v5e"
    commit: str | None


class Faces(TypedDict):
    """What the search for faces has found; missing where the data set brings its crops."""

    clips: int  # that were searched
    clips_without: int  # in which no frame has a face
    frames: int
    frames_without: int  # without the clip's main face


class Worth(TypedDict):
    """What a stream is worth, honestly cross-validated; None where nothing was trained, or is left, to say so."""

    stream: str
    clips: int  # labelled ones that have it
    cv_waf: float | None  # of networks trained on it alone
    cv_std: float | None
    test_waf: float | None
    without_waf: float | None  # of the run's networks where it is hidden, to compare with `cv.waf`


class Streams(TypedDict):
    """Of a run with more than one stream."""

    modality_of: dict[str, str]  # stream -> its modality
    attention: NotRequired[dict[str, dict[str, float]]]  # label -> stream -> mean weight; if a modality has several
    worth: list[Worth]
    # Stream -> stream -> Pearson's correlation, over the labelled clips that have both, of whether the networks of each
    # alone are right about a clip that they have not seen (Kuncheva and Whitaker 2003); None where one always is.
    correlation: dict[str, dict[str, float | None]]


class VotesOfSplit(TypedDict):
    """What votes from outside say of the clips of a split that have one."""

    clips: int
    networks: float | None  # share on which they agree with the networks alone, by labelled clips that these held out
    labels: float | None  # and with the labels, where these are known
    waf: float | None  # of votes alone


class Wafs(TypedDict):
    cv_waf: float
    test_waf: float | None


class Votes(TypedDict):
    """Votes from outside, a prior of `cv`, `folds`, `test`, `modality_subsets`, `temperatures` and all predictions.

    `cv["challenge"]`, `rounds`, `ablations` and `single_modality` are those of networks alone.
    """

    file: str
    lacking: int  # names in it that the data set lacks
    problems: list[Problem]  # rows of it that were left out
    pseudo_labels: str  # what they did there: "none", "filter" or "vote"
    weight: float  # of their logarithm, beside the logits of the ensemble
    fold_weights: list[float]  # by the held-out clips of the other folds: what `cv` is scored with
    splits: dict[str, VotesOfSplit]
    networks_alone: Wafs
    with_votes: Wafs


class Metrics(TypedDict, total=False):
    dataset: Dataset
    cv: CrossValidation
    folds: list[Fold] | None
    test: Ensemble | None
    rounds: list[Round] | None
    modality_subsets: list[Subset] | None
    temperatures: dict[str, float] | None  # present modalities -> what logits are divided by in all predictions
    single_modality: list[SingleModality] | None
    ablations: list[Ablation] | None
    video: Video | None
    transcripts: Transcripts | None
    ranking: Ranking | None
    attention: dict[str, dict[str, float]] | None  # label -> modality -> mean weight (no softmax)
    streams: Streams | None  # None where there is one
    votes: Votes | None
    curves: dict[str, FoldCurves | None] | None  # "fusion": the final training; "tune": EmoVCLIP's prompts
    faces: Faces | None
    problems: list[Problem] | None
    timing: dict[str, float] | None  # stage -> seconds, in the order they ran
    device_busy: dict[str, float] | None  # stage -> share of them in which a program was on the devices
    peak_memory_gib: float | None
    settings: dict[str, object] | None  # dotted key -> value
    environment: Environment | None
    checkpoints: dict[str, dict[str, str]] | None  # encoded stream -> source, commit ("": a folder), fingerprint
    run: Begun | None
