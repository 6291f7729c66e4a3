"""Config variants, and the messages for what they do not know."""

import pytest

from configs.best import get_config as best_config
from configs.semi import get_config
from mer_jax.runtime.errors import UsageError
from mer_jax.text.rankings import RankingSettings


def test_the_sample_is_the_default():
    config = get_config()
    assert config.variant == "sample" and config.encoders.speech.source == "bundled/hubert"
    assert (config.cv.folds, config.self_training.rounds, config.self_training.k) == (5, 10, 10)
    assert config.fusion.modality_dropout == 0.3


def test_the_word_list_guesses_for_the_sample_alone():
    assert get_config().ranking.lexicon_guesses
    assert not get_config("folder,root=/d").ranking.lexicon_guesses
    assert not get_config("mer2024,root=/d").ranking.lexicon_guesses
    assert RankingSettings().lexicon_guesses  # as runs of before, whose settings lack it


def test_the_best_recipe_is_that_of_folders_and_the_papers_that_of_all_others():
    paper, best = get_config(), best_config()
    assert (paper.fusion.network, paper.self_training.chooser, paper.fusion.standardise) == ("best", "all_folds", "all")
    assert (best.fusion.network, best.self_training.chooser, best.fusion.standardise) == (
        "average",
        "own_fold",
        "group",
    )
    assert (best.fusion.seeds, best.fusion.epochs) == (3, 60) and paper.fusion.epochs == 30
    assert (best.self_training.weight, best.self_training.rounds) == (0.3, 5)
    for variant in ("folder", "mer2024"):
        own, asked = get_config(f"{variant},root=/d"), best_config(f"{variant},root=/d")
        assert (own.to_dict() == asked.to_dict()) == (variant == "folder")
        assert get_config(f"{variant},root=/d,recipe=paper").self_training == paper.self_training


@pytest.mark.parametrize("variant", ["mer2024", "mer2025", "mer2026"])
def test_challenges_use_the_papers_encoders_and_sizes(variant):
    config = get_config(f"{variant},root=/data")
    assert config.data.root == "/data"
    assert config.encoders.speech.source == "TencentGameMate/chinese-hubert-large"
    assert config.tune.num_prompts.to_dict() == {"vision": 4, "text": 4}
    assert config.tune.depth.to_dict() == {"vision": 12, "text": 12}
    assert config.encoders.video.num_frames == 16
    assert config.fusion.hidden == 128 and config.fusion.learning_rate == 3e-4
    assert get_config(f"{variant},root=/data,encoders=bundled").encoders.image.source == "bundled/clip"


def test_folder_arguments():
    config = get_config("folder,root=/d,label_column=emotion,modalities=speech+image,image_feature=au")
    assert (config.data.label_column, config.data.modalities, config.data.image_feature) == (
        "emotion",
        "speech+image",
        "au",
    )
    assert config.data.split_column == "split" and config.encoders.speech.source == "bundled/hubert"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("mer2023", "unknown variant 'mer2023'; known: sample, mer2024, mer2025, mer2026, processed, prepared, folder"),
        ("mer2024", "needs its folder"),
        ("folder,root=/d,colour=red", "unknown argument 'colour'.*label_column"),
        ("sample,root=/d", "unknown argument 'root'"),
        ("mer2024,root=/d,encoders=best", "known: bundled, paper"),
        ("mer2024,root=/d,recipe=good", "recipe='good'; known: best, paper"),
    ],
)
def test_errors_list_what_is_known(argument, message):
    with pytest.raises(UsageError, match=message):
        get_config(argument)
