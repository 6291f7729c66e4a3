"""A run's settings: every config gives some, what is wrong is said before any work, and old runs go on."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from configs import best, recipe, semi, sweep, table1, table2
from mer_jax.data.dataset import VARIANTS, FolderData
from mer_jax.features.encoder_settings import TextSettings
from mer_jax.fusion.fusion_settings import FusionSettings
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.run import load_settings
from mer_jax.runtime.settings import as_dict, read_settings
from mer_jax.settings import Settings
from mer_jax.sweep_settings import SweepSettings


@pytest.mark.parametrize("encoders", ["paper", "base", "bundled"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_gives_settings(variant, encoders):
    argument = variant if variant == "sample" else f"{variant},root=/data"
    settings = read_settings(Settings, semi.get_config(f"{argument},encoders={encoders}"))
    assert settings.variant == variant and isinstance(settings.data, VARIANTS[variant])
    bundled = encoders == "bundled"
    assert (settings.encoders.text.source == "bundled/baichuan") == bundled
    assert (settings.encoders.text == TextSettings()) == (encoders == "paper")
    fusion = FusionSettings(hidden=64, learning_rate=1e-3) if bundled else FusionSettings()
    assert settings.fusion.hyperparameters == fusion.hyperparameters and settings.fusion.hidden == fusion.hidden
    assert (settings.fusion == fusion) == (variant != "folder")  # which takes the best recipe
    assert read_settings(Settings, json.loads(json.dumps(as_dict(settings)))) == settings


@pytest.mark.parametrize(("config", "rows"), [(sweep, 0), (table1, 5), (table2, 5), (recipe, 6)])
def test_every_sweep_gives_settings(config, rows):
    plan = read_settings(SweepSettings, config.get_config())
    assert plan.name in config.__name__ and len(plan.rows) == rows and bool(plan.search) == (not rows)


def test_what_makes_a_cross_validated_score_flatter():
    settings = read_settings(Settings, semi.get_config())
    assert settings.flattering == []
    assert read_settings(Settings, best.get_config()).flattering == []
    for section, changes, reason in (
        ("tune", {"mode": "all_labelled"}, "prompts"),
        ("cv", {"settings_from": "the sweep s"}, "the sweep s"),
        ("self_training", {"calibrated": True, "chooser": "own_fold"}, "calibrated"),
    ):
        changed = replace(settings, **{section: replace(getattr(settings, section), **changes)})
        (said,) = changed.flattering
        assert reason in said
    own = replace(settings.self_training, calibrated=True)  # of all folds: its twin is not calibrated
    assert replace(settings, self_training=own).flattering == []


def test_a_folder_takes_the_arguments_that_the_contract_names():
    pairs = {f"{column}_column": f"the {column}" for column in ("label", "split", "group", "text", "file")}
    pairs |= {f"{modality}_feature": f"own {modality}" for modality in ("speech", "image", "text", "video")}
    pairs |= {"root": "/d", "modalities": "speech+image"}
    config = semi.get_config(",".join(["folder", *(f"{key}={value}" for key, value in pairs.items())]))
    assert read_settings(Settings, config).data == FolderData(**pairs)
    everything = replace(read_settings(Settings, config), data=FolderData())
    assert list(everything.sources) == ["speech", "image", "text", "video"]


WRONG = {
    "ranking.annotator": ("oracle", "unknown; known: lexicon, local, openai, none"),
    "ranking.template": ("zh-9", "unknown; known: zh-1, "),
    "tune.mode": ("some", "unknown; known: per_fold, all_labelled"),
    "encoders.speech.dtype": ("int8", "unknown; known: "),
    "encoders.text.source": ("bundled/nothing", "unknown; known: "),
    "fusion.dropout": (1.0, "at most 0.99"),
    "data.labelled": (1, "at least 2"),
    "data.labels": (("sad", "sad"), "expected 2 or more different entries"),
    "encoders.image.buckets_frames": ((), "expected 1 or more different entries"),
    "encoders.text.buckets_tokens": ((64, 0), "at least 1"),
    "ablations.modality_dropouts": ((0.5, 1.5), "at most 1"),
    "seed": (2**32, "at most 4294967295"),
}


def with_value(key, value):
    config = semi.get_config()
    config.update_from_flattened_dict({key: value})
    return config


@pytest.mark.parametrize("key", WRONG)
def test_a_value_that_nothing_can_come_of_is_refused(key):
    value, reason = WRONG[key]
    with pytest.raises(UsageError) as error:
        read_settings(Settings, with_value(key, value))
    assert str(error.value).startswith(f"{key}={value!r}: {reason}")


def test_the_command_line_says_all_that_is_wrong_in_one_line_before_any_work(tmp_path):
    values = {key: value for key, (value, _) in WRONG.items()}
    command = [sys.executable, "-m", "mer_jax.train", "--config=configs/semi.py", f"--workdir={tmp_path / 'run'}"]
    command += [f"--config.{key}={value}" for key, value in values.items()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert all(f"{key}={value!r}: {WRONG[key][1]}" in done.stderr for key, value in values.items()), done.stderr
    assert not done.stdout and not list(tmp_path.iterdir())


def test_a_run_of_before_some_settings_has_their_defaults(tmp_path):
    saved = {"seed": 3, "variant": "folder", "data": {"root": "/d"}, "fusion": {"hidden": 8}, "cv": {"folds": 3}}
    (tmp_path / "config.json").write_text(json.dumps({"settings": saved}), "utf-8")
    settings = load_settings(Settings, tmp_path)
    cv = replace(Settings().cv, folds=3)
    expected = replace(Settings(), seed=3, variant="folder", data=FolderData(root="/d"), cv=cv)
    assert settings == replace(expected, fusion=FusionSettings(hidden=8))
