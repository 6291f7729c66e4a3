"""The main job on a tiny sample, from one end to the other."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

TINY = [
    "--config=configs/semi.py",
    "--config.data.labelled=36",
    "--config.data.unlabelled=30",
    "--config.data.test=20",
    "--config.tune.epochs=1",
    "--config.fusion.epochs=4",
    "--config.self_training.rounds=2",
    "--config.self_training.k=2",
    "--config.cv.folds=3",
]
SPLITS = {"unlabeled": 30, "test": 20}


def command(module, *arguments):
    return [sys.executable, "-m", f"mer_jax.{module}", *arguments]


def run(module, *arguments, **environment):
    done = subprocess.run(
        command(module, *arguments),
        capture_output=True,
        text=True,
        timeout=400,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    os.environ["MER_JAX_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    return os.environ["MER_JAX_CACHE"]


@pytest.fixture(scope="session")
def workdir(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run("train", *TINY, f"--workdir={folder}")
    return folder


def read_rows(path):
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


def read_probabilities(folder, split):
    rows = read_rows(folder / "predictions" / f"{split}_probs.csv")
    return {row.pop("name"): np.array([float(value) for value in row.values()]) for row in rows}


def predictions(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "predictions").iterdir())}


def test_every_candidate_stands_once_in_the_predictions(workdir):
    labels = json.loads((workdir / "metrics.json").read_text("utf-8"))["dataset"]["labels"]
    for split, count in SPLITS.items():
        rows = read_rows(workdir / "predictions" / f"{split}.csv")
        probs = read_rows(workdir / "predictions" / f"{split}_probs.csv")
        assert len({row["name"] for row in rows}) == len(rows) == len(probs) == count
        for row, line in zip(rows, probs, strict=True):
            shares = {label: float(line[label]) for label in labels}
            assert row["discrete"] == max(shares, key=shares.__getitem__)
            assert sum(shares.values()) == pytest.approx(1, abs=1e-4)


def test_metrics_and_report(workdir):
    metrics = json.loads((workdir / "metrics.json").read_text("utf-8"))
    assert {"cv", "folds", "rounds", "test", "modality_subsets", "timing", "video"} <= metrics.keys()
    assert len(metrics["folds"]) == 3 and len(metrics["rounds"]) == 2 and len(metrics["modality_subsets"]) == 15
    stages = ["data", "faces", "ranking", "speech", "image", "text", "video", "fusion", "report"]
    assert list(metrics["timing"]) == stages
    reasons = {problem["reason"] for problem in metrics["problems"]}
    assert {"silent", "no face", "no transcript", "row without a clip", "no video stream"} <= reasons
    assert any(reason.startswith("cannot decode") for reason in reasons)
    faceless = {problem["reason"] for problem in metrics["problems"] if problem["modality"] == "image"}
    assert faceless >= {"no face", "row without a clip", "no video stream"}  # those without crops were searched
    assert [row["name"] for row in metrics["single_modality"]][-1] == "text without ranking"
    assert len(read_rows(workdir / "rankings.csv")) == sum(metrics["dataset"]["counts"].values())
    assert "paper" in (workdir / "report" / "index.html").read_text("utf-8").lower()


def test_a_second_start_prints_the_result_again(workdir):
    before = (workdir / "metrics.json").stat().st_mtime_ns
    for arguments in ([*TINY, f"--workdir={workdir}"], [f"--workdir={workdir}"]):
        done = run("train", *arguments)
        assert "cross-validated WAF" in done.stdout and str(workdir) in done.stdout
    assert (workdir / "metrics.json").stat().st_mtime_ns == before


def test_other_settings_in_the_same_workdir_are_refused(workdir):
    done = subprocess.run(
        command("train", *TINY, f"--workdir={workdir}", "--config.seed=7"), capture_output=True, text=True
    )
    assert done.returncode == 2 and "seed: 0 there, 7 now" in done.stderr


def test_killed_and_started_again_predicts_the_same_bytes(workdir, tmp_path):
    folder = tmp_path / "killed"
    for stage in ("image", "video", "fusion"):
        process = subprocess.Popen(command("train", *TINY, f"--workdir={folder}"), stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if line.rstrip().endswith(f"] {stage}"):
                time.sleep(2.0)  # into the stage
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        process.stderr.close()
        assert process.returncode == -signal.SIGKILL and not (folder / "metrics.json").exists()
    run("train", *TINY, f"--workdir={folder}")
    assert predictions(folder) == predictions(workdir)


def test_eight_devices(workdir, tmp_path):
    eight = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    run("train", *TINY, f"--workdir={tmp_path}", XLA_FLAGS=eight)
    for split in SPLITS:
        ours, theirs = (read_probabilities(folder, split) for folder in (tmp_path, workdir))
        assert ours.keys() == theirs.keys()
        # Sums over devices round differently, and training amplifies it; another seed is off by twenty times as much.
        assert np.mean([np.abs(ours[name] - theirs[name]).max() for name in ours]) < 0.01


def test_predict(workdir, cache, tmp_path):
    (tmp_path / "broken.mp4").write_text("not a video")
    clip = sorted(Path(cache).glob("sample-*/video-unlabeled/*.mp4"))[0]
    done = run("predict", f"--workdir={workdir}", f"--input={clip}", "--text=我好担心，怎么办？")
    line = json.loads(done.stdout)
    assert line["label"] == max(line["probabilities"], key=line["probabilities"].get)
    assert set(line["used"]) | set(line["absent"]) == {"speech", "image", "text", "video"} == set(line["attention"])
    assert "text" in line["used"]

    failed = subprocess.run(
        command("predict", f"--workdir={workdir}", f"--input={tmp_path}"), capture_output=True, text=True
    )
    assert failed.returncode == 1 and "cannot decode" in json.loads(failed.stdout)["error"]
    assert "Traceback" not in failed.stderr
