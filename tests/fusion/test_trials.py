"""Which settings a run trains beside its own."""

from dataclasses import replace

from mer_jax.fusion.fusion_settings import AblationSettings, FusionSettings, Hyperparameters
from mer_jax.fusion.trials import Setting, run_table, self_trained

SETTINGS = FusionSettings(dropout=0.1, modality_dropout=0.3, learning_rate=1e-3, l2=0.5, label_smoothing=0.2)
ALL = ("speech", "image", "text", "video")


def summary(settings):
    return [(each.name, each.modalities, each.hyperparameters.modality_dropout) for each in settings]


def test_a_setting_is_the_runs_but_for_what_it_changes():
    expected = Hyperparameters(1e-3, 0.0, 0.1, 0.3, 0.2)
    assert Setting.of("row", SETTINGS, ["text"], 4, l2=0.0) == Setting("row", ("text",), expected, 4, True)
    assert not Setting.of("row", replace(SETTINGS, network="average"), ["text"]).best_epoch


def test_settings_whose_scores_would_flatter_get_a_twin():
    best, last = (Setting.of(name, replace(SETTINGS, network=name), ["text"]) for name in ("best", "last"))
    table = [(each.name, each.best_epoch, each.chooser) for each in self_trained([best, last], "own_fold")]
    assert table == [("best", True, "own_fold"), ("last", False, "own_fold"), ("best, blind", False, "own_fold")]
    table = [(each.name, each.best_epoch, each.chooser) for each in self_trained([best, last], "all_folds")]
    assert table == [
        ("best", True, "all_folds"),
        ("last", False, "all_folds"),
        ("best, blind", False, "own_fold"),
        ("last, blind", False, "own_fold"),
    ]
    assert replace(best.twin, name="best", best_epoch=True) == best


def test_the_table_of_a_run_with_all_modalities():
    table = run_table(SETTINGS, AblationSettings(modality_dropouts=(0.0, 0.3, 0.5)), ALL)
    assert table.run == Setting.of("this run", SETTINGS, ALL)
    assert summary(table.ablations) == [
        ("modality dropout 0", ALL, 0.0),
        ("modality dropout 0.5", ALL, 0.5),
        ("without video, modality dropout 0", ("speech", "image", "text"), 0.0),
    ]
    parts = {**{modality: (modality,) for modality in ALL}, "image + video": ("image", "video")}
    assert summary(table.singles) == [(name, part, 0.0) for name, part in parts.items()]


def test_what_a_run_lacks_or_does_not_ask_for_is_not_trained():
    two = run_table(SETTINGS, AblationSettings(modality_dropouts=()), ("image", "video"))
    assert summary(two.ablations) == [("without video, modality dropout 0", ("image",), 0.0)]
    assert [single.name for single in two.singles] == ["image", "video"]
    without = AblationSettings(modality_dropouts=(), without_video=False, single_modalities=False)
    assert run_table(SETTINGS, without, ALL)[1:] == ([], [])
    assert run_table(SETTINGS, AblationSettings(), ("text",))[1:] == ([], [])  # nothing to leave out
