"""A workdir: whose settings it belongs to, and what its stages took."""

import json
from itertools import count

import pytest
from ml_collections import ConfigDict

from configs.semi import get_config
from mer_jax.runtime import run as module
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.run import Run, differences, flatten, load_config


@pytest.fixture
def clock(monkeypatch):
    """A second passes between two looks at it."""
    ticks = count()
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(ticks)))


def work(run, *names):
    for name in names:
        with run.stage(name):
            pass


def test_the_settings_are_kept_once_a_stage_is_done(tmp_path, clock):
    run = Run(tmp_path, get_config())
    run.announce(["data", "fuse"])
    with pytest.raises(ZeroDivisionError), run.stage("data"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())  # another start may choose other settings
    work(run, "data")
    assert load_config(tmp_path).to_dict() == json.loads(json.dumps(get_config().to_dict()))
    assert {"versions", "devices", "commit", "seed"} <= json.loads((tmp_path / "config.json").read_text()).keys()


def test_a_later_start_does_not_change_what_a_stage_took(tmp_path, clock):
    run = Run(tmp_path, get_config())
    run.announce(["data", "fuse"])
    work(run, "data")
    (tmp_path / "timing.json").write_text('{"data": 60.0}')
    again = Run(tmp_path, get_config())
    again.announce(["data", "fuse"])
    work(again, "data", "fuse")
    assert again.timing == {"data": 60.0, "fuse": 1.0}


def test_other_settings_are_named(tmp_path, clock):
    run = Run(tmp_path, get_config())
    run.announce(["data"])
    work(run, "data")
    other = get_config()
    other.fusion.hidden = 3
    with pytest.raises(UsageError, match=r"other settings \(fusion.hidden: 64 there, 3 now\)"):
        Run(tmp_path, other)


def test_settings_by_dotted_keys():
    old, new = flatten({"a": {"b": 1, "c": [1]}, "d": 2}), flatten({"a": {"b": 1, "c": [2]}, "e": 3})
    assert old == {"a.b": 1, "a.c": [1], "d": 2}
    assert differences(old, new) == ["a.c: [1] there, [2] now", "d: 2 there, None now", "e: None there, 3 now"]


def test_no_run(tmp_path):
    with pytest.raises(DataError, match=r"no config\.json"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        load_config(tmp_path)


def test_the_config_that_comes_back_is_one(tmp_path, clock):
    run = Run(tmp_path, ConfigDict(get_config()))
    run.announce(["data"])
    work(run, "data")
    Run(tmp_path, load_config(tmp_path))  # the same settings, although tuples are lists by now
