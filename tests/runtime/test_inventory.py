"""A finished run knows what it wrote."""

import pytest

from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import dump_json
from mer_jax.runtime.inventory import INVENTORY, changes, require_results, take_inventory
from mer_jax.runtime.kept import keep

FILES = ("metrics.json", "report/index.html", "report/frames/a.png", "checkpoints/ensemble/d/0", "other.txt")


@pytest.fixture
def workdir(tmp_path):
    keep(tmp_path / "config.json", {"settings": {}})
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    take_inventory(tmp_path, ["metrics.json", "report", "checkpoints/ensemble", "rankings.csv"])
    return tmp_path


def test_nothing_has_changed(workdir):
    assert changes(workdir) == changes(workdir, ("report",)) == []
    (workdir / "other.txt").unlink()
    (workdir / "sweeps").mkdir()
    assert changes(workdir) == []


@pytest.mark.parametrize("name", FILES[:4])
@pytest.mark.parametrize("content", [None, b"", b"other"])
def test_changed_and_missing_results_are_listed(workdir, name, content):
    (workdir / name).unlink() if content is None else (workdir / name).write_bytes(content)
    assert changes(workdir) == [name]
    assert changes(workdir, ("checkpoints",)) == [name] * name.startswith("checkpoints")


def test_without_its_inventory_a_run_is_not_finished(workdir, capsys):
    (workdir / INVENTORY).write_text("{}")
    assert changes(workdir) == [INVENTORY] and "made again" in capsys.readouterr().err
    (workdir / INVENTORY).unlink()
    assert changes(workdir) == changes(workdir, ("checkpoints",)) == [INVENTORY]
    (workdir / "metrics.json").unlink()
    assert changes(workdir) == [INVENTORY]


@pytest.mark.parametrize("content", [{"files": []}, {"files": [["metrics.json", "0"]]}, {"file": {}}])
def test_an_inventory_of_another_kind_is_none(workdir, capsys, content):
    keep(workdir / INVENTORY, content)
    assert changes(workdir) == [INVENTORY] and "holds other things" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", "3", "{", None])
def test_settings_of_another_kind_are_not_an_earlier_versions(workdir, content):
    (workdir / INVENTORY).unlink()
    (workdir / "config.json").write_text(content) if content else (workdir / "config.json").unlink()
    assert changes(workdir) == [INVENTORY]


def test_a_finished_run_of_an_earlier_version_is_taken_as_it_is(workdir):
    (workdir / INVENTORY).unlink()
    dump_json(workdir / "config.json", {"settings": {}})
    assert changes(workdir) == []


def test_nothing_is_read_from_a_run_whose_settings_or_checkpoints_have_changed(workdir):
    take_inventory(workdir, ["config.json", "metrics.json", "checkpoints"])
    (workdir / "metrics.json").unlink()
    require_results(workdir)
    keep(workdir / "config.json", {"settings": {"seed": 7}})
    with pytest.raises(DataError, match=r"config\.json is not as the run wrote it; start the same"):
        require_results(workdir)
    (workdir / INVENTORY).unlink()
    with pytest.raises(DataError, match="its run is not finished"):
        require_results(workdir)
