"""A workdir: whose settings it belongs to, and what its stages took."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count

import pytest

from mer_jax.runtime import run as module
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.kept import keep
from mer_jax.runtime.run import Run, differences, load_settings
from mer_jax.runtime.settings import section, setting


@dataclass(frozen=True)
class Part:
    sizes: tuple[int, ...] = setting((1, 2))


@dataclass(frozen=True)
class Settings:
    seed: int = setting(0)
    width: int = setting(64, least=1)
    part: Part = section(Part)


@pytest.fixture
def clock(monkeypatch):
    """A second passes between two looks at it."""
    ticks = count()
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(ticks)))


def work(run, *names):
    run.announce(list(names))
    for name in names:
        with run.stage(name):
            pass


def test_the_settings_are_kept_once_a_stage_is_done(tmp_path, clock):
    settings = Settings(seed=5, part=Part((3,)))
    run = Run(tmp_path, settings)
    run.announce(["data", "fuse"])
    with pytest.raises(ZeroDivisionError), run.stage("data"):
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]  # another start may choose other settings
    work(run, "data")
    assert load_settings(Settings, tmp_path) == settings  # tuples are tuples again
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["settings"] == {"seed": 5, "width": 64, "part": {"sizes": [3]}} and saved["seed"] == 5
    assert {"versions", "devices", "commit"} <= saved.keys()


def test_a_run_keeps_when_and_by_what_command_it_was_begun(tmp_path, clock, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/lib/mer_jax/train.py", "--config=c.py:folder,root=my clips", "--workdir=w"])
    first = Run(tmp_path, Settings())
    work(first, "data")
    monkeypatch.setattr("sys.argv", ["/bin/mer-train", "--workdir=w"])
    again = Run(tmp_path, Settings())
    work(again, "data", "fuse")
    assert again.begun == first.start
    assert first.start["command"] == "python -m mer_jax.train '--config=c.py:folder,root=my clips' --workdir=w"
    assert (
        datetime.fromisoformat(first.start["begun"]).tzinfo is UTC and again.start["command"] == "mer-train --workdir=w"
    )
    (tmp_path / "config.json").write_text('{"settings": {}}')
    assert again.begun is None


def test_a_later_start_does_not_change_what_a_stage_took(tmp_path, clock):
    work(Run(tmp_path, Settings()), "data")
    (tmp_path / "timing.json").write_text('{"data": 60.0}')
    again = Run(tmp_path, Settings())
    work(again, "data", "fuse")
    assert again.timing == {"data": 60.0, "fuse": 1.0}


def test_other_settings_are_named(tmp_path, clock):
    work(Run(tmp_path, Settings()), "data")
    with pytest.raises(UsageError, match=r"other settings \(width: 64 there, 3 now\): choose another --workdir"):
        Run(tmp_path, replace(Settings(), width=3))


def test_many_other_settings_are_counted_and_the_way_back_is_told(tmp_path, clock, monkeypatch):
    class WithAWayBack(Settings):
        def back_to(self, earlier):
            return f"width={earlier.width} goes on with it; or "

    monkeypatch.setattr(module, "SHOWN", 1)
    work(Run(tmp_path, WithAWayBack()), "data")
    message = r"settings \(seed: 0 there, 1 now, and 1 more\): width=64 goes on with it; or choose another --workdir"
    with pytest.raises(UsageError, match=message):
        Run(tmp_path, WithAWayBack(seed=1, width=3))


def test_a_run_of_before_a_setting_came_into_being_goes_on_with_its_default(tmp_path, clock):
    (tmp_path / "config.json").write_text('{"settings": {"seed": 0}}')
    work(Run(tmp_path, Settings()), "data")
    with pytest.raises(UsageError, match="width: 64 there, 65 now"):
        Run(tmp_path, Settings(width=65))


def test_differences_by_dotted_keys():
    old, new = {"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"b": 1, "c": [2]}, "e": 3}
    assert differences(old, new) == ["a.c: [1] there, [2] now", "d: 2 there, None now", "e: None there, 3 now"]
    assert differences({"a": 1, "b": {"source": 1}}, {}) == ["b.source: 1 there, None now", "a: 1 there, None now"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ('{"settings": {"colour": 1}}', "config.json: not the settings of a run of this version.*colour: unknown"),
        ("[]", "not a JSON object; put it back as it was"),
        ('{"settings": {"width": "wide"}}', "width='wide': expected int"),
    ],
)
def test_no_run(tmp_path, content, message):
    with pytest.raises(DataError, match=r"no config\.json"):
        load_settings(Settings, tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(DataError, match=message):
        load_settings(Settings, tmp_path)


def test_times_of_another_kind_are_taken_anew(tmp_path, capsys):
    keep(tmp_path / "timing.json", {"data": "long"})
    assert Run(tmp_path, Settings()).timing == {} and "timing.json: holds other things" in capsys.readouterr().err
