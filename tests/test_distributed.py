"""Two hosts that share a workdir: they train and score what one host does, and each writes no more than its part."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from mer_jax.features.store import FeatureStore
from mer_jax.fusion.ensemble import TrainedEnsemble

SENTENCES = ("今天真高兴", "我很难过", "太好了", "别走", "哈哈", "我哭了")


@pytest.fixture
def data(tmp_path):
    """A folder of transcripts of two classes, with clips to pseudo-label and to test on."""
    root = tmp_path / "data"
    root.mkdir()
    rows = [f"l{i},{('happy', 'sad')[i % 2]},train,{SENTENCES[i % 6]}{i}" for i in range(12)]
    rows += [f"u{i},,unlabeled,{SENTENCES[i % 6]}！{i}" for i in range(6)]
    rows += [f"t{i},{('happy', 'sad')[i % 2]},test,{SENTENCES[i % 6]}？{i}" for i in range(4)]
    (root / "clips.csv").write_text("name,label,split,text\n" + "\n".join(rows) + "\n", "utf-8")
    flags = ["cv.folds=3", "fusion.epochs=3", "fusion.seeds=1", "self_training.rounds=1", "self_training.k=1"]
    encoders = "encoders=bundled,modalities=text"
    return [f"--config=configs/semi.py:folder,root={root},{encoders}", *(f"--config.{flag}" for flag in flags)]


def start(module, arguments, hosts=1):
    """A command on as many simulated hosts of two devices each; their exit codes and outputs."""
    with socket.socket() as reserved:  # from all but servers of this user that ask to share it, as JAX's does
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        cluster = ["--distributed", f"--coordinator=127.0.0.1:{reserved.getsockname()[1]}", f"--hosts={hosts}"]
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", f"mer_jax.{module}", *arguments, *[*cluster, f"--host={host}"] * (hosts > 1)],
                env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for host in range(hosts)
        ]
        outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * hosts, outputs
    return outputs


def ensemble_of(workdir):
    """Logits of a run's ensemble on made-up features."""
    ensemble = TrainedEnsemble(workdir / "checkpoints")
    features = {name: np.linspace(-1, 1, 4 * width).reshape(4, width) for name, width in ensemble.shape.dims.items()}
    return ensemble(features, {name: np.ones(4, bool) for name in features}, [None] * 4)[0]


def test_two_hosts_train_what_one_does(data, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    start("train", [*data, f"--workdir={one}"])
    (first, _), (second, _) = start("train", [*data, f"--workdir={two}"], hosts=2)
    assert "cross-validated" in first and second == ""
    stores = [FeatureStore(next(workdir.glob("features/text-*"))) for workdir in (one, two)]
    keys = list(stores[0].where)
    assert [path.name for path in stores[1].shards] == ["000-000000.safetensors", "001-000000.safetensors"]
    np.testing.assert_array_equal(*(np.asarray(store.features(keys).embeddings) for store in stores))
    np.testing.assert_allclose(ensemble_of(one), ensemble_of(two), atol=1e-4)
    metrics = [json.loads((workdir / "metrics.json").read_text("utf-8")) for workdir in (one, two)]
    assert metrics[0]["cv"] == metrics[1]["cv"]
    assert sorted(path.name for path in two.iterdir()) == sorted(path.name for path in one.iterdir())
    written = {path: path.stat().st_mtime_ns for path in two.rglob("*") if path.is_file() and path.name != ".lock"}
    start("train", [*data, f"--workdir={two}"])  # on another number of hosts: everything is done
    assert {path: path.stat().st_mtime_ns for path in written} == written

    (rows, _), (silence, _) = start("sweep", ["--config=configs/table1.py", f"--workdir={two}"], hosts=2)
    assert rows.startswith("WAF in %") and silence == ""
