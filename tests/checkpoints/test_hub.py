import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import safetensors.numpy

from mer_jax.checkpoints import hub
from mer_jax.checkpoints.hub import Source, commit_of, lack_of_space, plan
from mer_jax.checkpoints.huggingface import fetch, fingerprint
from mer_jax.checkpoints.sources import ASSETS
from mer_jax.runtime.errors import DataError
from tests.hub import Commit, Hub
from tests.torch_writer import save_torch

ROOT = Path(__file__).parents[2]
DUPLICATES = ("flax_model.msgpack", "tf_model.h5", "model.onnx", "model.fp16.safetensors", "chinese-hubert.pt")


def write_model(folder, torch=False, shards=1, number=0.0):
    """A checkpoint as on the hub, with what is not to be fetched beside it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "hubert"}')
    (folder / "vocab.txt").write_text("a")
    for name in (*DUPLICATES, "README.md", "modeling_x.py"):
        (folder / name).write_bytes(b"never fetched")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    tensors = {f"{index}": np.full(50_000, number, np.float32) for index in range(4)}
    if not torch:
        safetensors.numpy.save_file(tensors, folder / "model.safetensors")
        (folder / "pytorch_model.bin").write_bytes(b"never fetched")
        return folder
    names = [f"pytorch_model-{shard + 1:05}-of-{shards:05}.bin" for shard in range(shards)]
    names = names if shards > 1 else ["pytorch_model.bin"]
    for shard, name in enumerate(names):
        save_torch(folder / name, dict(list(tensors.items())[shard::shards]))
    if shards > 1:
        weight_map = {name: names[index % shards] for index, name in enumerate(tensors)}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@pytest.fixture
def served(tmp_path, monkeypatch):
    """The stand-in of the hub, with an empty cache."""
    with Hub(tmp_path / "models") as server:
        server.serve_this_process(monkeypatch, tmp_path / "cache")
        monkeypatch.setattr(hub, "SECONDS", 2.0)
        yield server


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("layout", "weights"),
    [
        ({}, {"model.safetensors"}),
        ({"torch": True}, {"pytorch_model.bin"}),
        (
            {"torch": True, "shards": 2},
            {f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)} | {"pytorch_model.bin.index.json"},
        ),
    ],
)
def test_what_is_read_is_fetched_and_nothing_else(served, layout, weights, capsys):
    model = write_model(served.folder / "maker" / "model", **layout)
    (announced,) = plan(["maker/model"])
    sizes = {name: (model / name).stat().st_size for name in ("config.json", "vocab.txt", *weights)}
    assert dict(announced.files) == sizes and announced.bytes == sum(sizes.values())
    assert announced.folder is None and not announced.problem and not (served.folder.parent / "cache").exists()
    folder = fetch("maker/model")
    assert names(folder) == sizes.keys()
    assert commit_of(folder) == Commit(model).hash == announced.commit
    said = capsys.readouterr().err
    assert (
        said.startswith(f"  fetching {announced}\n") and f"{len(sizes)} files of " in said and served.endpoint in said
    )
    asked = list(served.asked)
    assert fetch("maker/model") == folder and plan(["maker/model"])[0].folder == folder
    assert served.asked == asked and not capsys.readouterr().err


def test_the_small_files_come_first_and_the_weights_when_they_are_needed(served):
    write_model(served.folder / "maker" / "model")
    assert names(fetch("maker/model", weights=False)) == {"config.json", "vocab.txt"}
    (announced,) = plan(["maker/model"])
    assert [name for name, _ in announced.files] == ["model.safetensors"]
    assert names(fetch("maker/model")) == {"config.json", "vocab.txt", "model.safetensors"}


def test_a_revision_by_branch_and_by_hash(served):
    main, other = (write_model(served.folder / "maker" / name, number=n) for n, name in enumerate(("m", "m@v1")))
    assert Commit(main).hash != Commit(other).hash
    assert commit_of(fetch("maker/m@v1")) == Commit(other).hash
    assert commit_of(fetch("maker/m")) == Commit(main).hash
    assert fetch(f"maker/m@{Commit(other).hash}") == fetch("maker/m@v1")
    assert fingerprint(fetch("maker/m")) != fingerprint(fetch("maker/m@v1"))
    with pytest.raises(DataError, match=r"^maker/m@v2: .*/maker/m has no revision 'v2': name a branch"):
        fetch("maker/m@v2")


def test_folders_and_bundled_checkpoints_need_no_hub(served, tmp_path):
    folder = shutil.copytree(ASSETS / "hubert", tmp_path / "speech@home")
    assert fetch(folder) == folder and fetch("bundled/clip") == ASSETS / "clip"
    plans = plan([str(folder), "bundled/clip", "bundled/clip"])
    assert [each.folder for each in plans] == [folder, ASSETS / "clip"]
    assert not served.asked and not any(each.bytes or each.problem or each.commit for each in plans)


def test_what_was_fetched_serves_without_a_hub(served, monkeypatch):
    write_model(served.folder / "maker" / "model", torch=True)
    folder = fetch("maker/model")
    served.faults["maker/model"] = 500
    for key in list(hub._listings):
        del hub._listings[key]
    assert fetch("maker/model") == folder
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    assert fetch("maker/model") == folder
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (found,) = plan(["maker/model"])
    assert found.folder == folder and found.commit == folder.name
    (folder / "pytorch_model.bin").unlink()  # as after an interruption
    assert fetch("maker/model", weights=False) == folder
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set: pass the folder of a checkpoint"):
        fetch("maker/model")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("gated", r"accepted its terms: do so at http://127\.0\.0\.1:\d+/maker/model, and set HF_TOKEN"),
        (404, "has no such model, or shows it to nobody without a login"),
        (500, r"http://127\.0\.0\.1:\d+ fails \(HfHubHTTPError: .*500.*\): pass the folder of a checkpoint"),
        ("slow", r"fails \((ReadTimeout|TimeoutError).*\): pass the folder of a checkpoint, name a mirror"),
    ],
)
def test_what_the_hub_does_not_give_is_one_line(served, fault, says):
    write_model(served.folder / "maker" / "model")
    served.faults["maker/model"] = fault
    (found,) = plan(["maker/model"])
    assert found.problem.startswith("maker/model: ") and "\n" not in found.problem
    with pytest.raises(DataError, match=says) as error:
        fetch("maker/model")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["nobody/nothing", "/no/such/folder", "no such name", "a/b/c"])
def test_names_that_are_none(served, source):
    with pytest.raises(DataError, match=f"^{source}: no such folder, and "):
        fetch(source)


def test_a_hub_that_is_silent_is_asked_once(served, monkeypatch):
    sources = [f"maker/{name}" for name in "abcd"]
    for source in sources:
        write_model(served.folder / source)
        served.faults[source] = "slow"
    assert all("fails" in each.problem for each in plan(sources))
    assert len(served.asked) == 4  # at once
    assert all("fails" in each.problem for each in plan(sources))
    assert len(served.asked) == 4


def test_repositories_without_a_checkpoint(served):
    model = write_model(served.folder / "maker" / "model")
    for name in ("model.safetensors", "pytorch_model.bin"):
        (model / name).unlink()
    with pytest.raises(DataError, match=r"maker/model: has no model\.safetensors or pytorch_model\.bin on the hub"):
        fetch("maker/model")
    bare = write_model(served.folder / "maker" / "bare")
    (bare / "config.json").unlink()
    with pytest.raises(DataError, match=r"maker/bare: has no config\.json on the hub"):
        fetch("maker/bare")


def test_the_disk_is_asked_before_anything_is_fetched(served, monkeypatch):
    write_model(served.folder / "maker" / "model")
    plans = plan(["maker/model"])
    assert not lack_of_space(plans)
    need = plans[0].bytes
    monkeypatch.setattr(hub, "free_bytes", lambda _: need + hub.SPARE_BYTES - 1)
    with pytest.raises(DataError, match=r"cache: 0\.8 MB are to be fetched, and 1\.1 GB are free there: make room"):
        fetch("maker/model")
    assert not any("resolve" in request for request in served.asked)
    monkeypatch.setattr(hub, "free_bytes", lambda _: need + hub.SPARE_BYTES)
    fetch("maker/model")


def test_a_download_that_broke_off_goes_on_where_it_ended(served):
    model = write_model(served.folder / "maker" / "model")
    served.cuts["model.safetensors"] = 300_000
    try:
        folder = fetch("maker/model")
    except DataError as error:
        assert "the same command goes on where it ended" in str(error)
        folder = fetch("maker/model")
    assert (folder / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert not served.cuts


def test_a_source_says_what_it_is(tmp_path):
    assert Source.parse("user/name") == Source("user/name", None, "user/name", "main")
    assert Source.parse("user/name@v1") == Source("user/name@v1", None, "user/name", "v1")
    assert Source.parse(str(tmp_path)) == Source(str(tmp_path), tmp_path)


def test_a_mirror_by_its_variable_and_a_network_that_is_none(served, tmp_path):
    """As a user has it: the variables are read when a process starts."""
    write_model(served.folder / "maker" / "model")
    code = "from mer_jax.checkpoints.hub import Source, download; print(download(Source.parse('maker/model'), True))"

    def run(endpoint):
        variables = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
        return subprocess.run([sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True)

    line = run("http://127.0.0.1:9").stderr.splitlines()[-1]
    assert "http://127.0.0.1:9 fails" in line and "HF_ENDPOINT" in line
    done = run(served.endpoint)
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "home") and not done.returncode
    done = run("http://127.0.0.1:9")
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "home") and not done.returncode
