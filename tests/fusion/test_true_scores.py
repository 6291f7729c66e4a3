"""Labels that are coin flips, with near-copies of the labelled clips among the unlabelled: no score may beat chance.

Whatever a network has seen of a held-out clip, its label among the pseudo-labels of near-copies, say, would show.
"""

from dataclasses import replace

import numpy as np
import pytest

from mer_jax.fusion.cross_validation import CrossValidation, Networks
from mer_jax.fusion.data import Embeddings, FusionData, Groups
from mer_jax.fusion.folds import make_folds
from mer_jax.fusion.fusion_settings import FusionSettings
from mer_jax.fusion.trials import Setting
from mer_jax.self_training_settings import SelfTrainingSettings

CLASSES, FOLDS, CLIPS, SETS = 4, 3, 60, 4
PAPER = FusionSettings(hidden=16, epochs=12, batch_size=16, learning_rate=1e-2, dropout=0.0, modality_dropout=0.0)
SETTING = Setting.of("run", PAPER, ("speech", "text"))
HIGHEST = 0.25 + 3 * (0.25 * 0.75 / (SETS * CLIPS)) ** 0.5  # three standard deviations of guesses above chance


def coin_flips(seed, grouped):
    """A set with three near-copies of each labelled clip; in groups of four, to which the copies belong."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(CLIPS) % CLASSES)
    x = {"speech": rng.normal(size=(CLIPS, 24)), "text": rng.normal(size=(CLIPS, 12))}
    original = np.tile(np.arange(CLIPS), 3)
    copies = {name: each[original] + 0.1 * rng.normal(size=(len(original), each.shape[1])) for name, each in x.items()}
    groups = np.arange(CLIPS) // 4 if grouped else np.arange(CLIPS)

    def clips(features):
        features = {name: each.astype(np.float32) for name, each in features.items()}
        return Embeddings(features, {name: np.ones(len(each), bool) for name, each in features.items()})

    labelled, nothing = clips(x), clips({name: each[:0] for name, each in x.items()})
    return FusionData(
        labelled=labelled,
        labels=labels,
        fold_of=make_folds(labels, FOLDS, seed, groups),
        training=labelled,
        copy_of=np.zeros(0, int),
        unlabelled=clips(copies),
        unlabelled_truth=np.full(len(original), -1),
        test=nothing,
        test_truth=np.zeros(0, int),
        groups=Groups(groups, groups[original] if grouped else CLIPS + np.arange(len(original)), np.zeros(0, int)),
    )


@pytest.fixture(scope="module")
def networks():
    data = coin_flips(0, grouped=False)
    return {settings: Networks(data.dims, CLASSES, settings) for settings in (PAPER, replace(PAPER, network="average"))}


def scores(networks, folder, settings=PAPER, grouped=False, **self_training):
    """Mean over the sets of the honest score and of what the challenge counts."""
    both = []
    for seed in range(SETS):
        data = coin_flips(seed, grouped)
        setting = replace(SETTING, best_epoch=settings.network == "best")
        options = SelfTrainingSettings(**{"rounds": 4, "k": 8, **self_training})
        fusion = CrossValidation(data, networks[settings], seed, [setting], options)
        _, final = fusion.self_train(folder / str(seed))
        both.append((final["run"].cv_waf.mean(), final["run"].challenge_waf.mean()))
    return np.mean(both, axis=0)


def test_the_papers_way_flatters_and_the_honest_score_beside_it_does_not(networks, tmp_path):
    honest, challenge = scores(networks, tmp_path)
    assert challenge > 0.4  # the sets can tell
    assert honest < HIGHEST


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"relabel": True},
        {"agreement": True},
        {"cumulative": False},
        {"calibrated": True},
        {"grouped": True},
        {"grouped": True, "relabel": True, "agreement": True},
    ],
    ids=lambda options: "+".join(options) or "plain",
)
def test_blind_self_training_stays_within_chance(networks, tmp_path, options):
    average = replace(PAPER, network="average")
    honest, _ = scores(networks, tmp_path, average, chooser="own_fold", weight=0.3, **options)
    assert honest < HIGHEST
