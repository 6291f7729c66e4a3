"""The main job on a tiny sample, from one end to the other."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.damage import RIGHT, Case, Trials
from mer_jax.data.clips import Clip, Dataset
from tests.commands import import_command

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
    "--config.extraction.shard_clips=32",  # several shards, between which a run can be killed
]
SPLITS = {"unlabeled": 30, "test": 20}


def command(module, *arguments):
    return [sys.executable, "-m", f"mer_jax.{module}", *arguments]


def run(module, *arguments, **environment):
    done = subprocess.run(
        command(module, *arguments), capture_output=True, text=True, timeout=1200, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
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


def test_the_page_of_clips_says_what_the_predictions_and_the_confusion_say(workdir):
    script = (workdir / "report" / "clips" / "data.js").read_text("ascii")
    clips = json.loads(script.removeprefix("const DATA = ").removesuffix(";\n"))["clips"]
    for split in SPLITS:
        expected = read_probabilities(workdir, split)
        shown = {clip["name"]: clip["probs"] for clip in clips if clip["split"] == split}
        assert shown.keys() == expected.keys()
        assert all(np.allclose(shown[name], expected[name], atol=6e-4) for name in shown)
    metrics = json.loads((workdir / "metrics.json").read_text("utf-8"))
    confusion = np.zeros((6, 6), int)
    for clip in clips:
        if clip["split"] == "train":
            confusion[clip["label"], clip["subsets"]["speech+image+text+video"][0]] += 1
    assert confusion.tolist() == metrics["cv"]["confusion"]
    strips = {clip["strip"][0] for clip in clips if "strip" in clip}
    assert strips == {path.name for path in (workdir / "report" / "clips").glob("*.jpg")} and len(strips) > 50
    assert metrics["run"]["command"].startswith("python -m mer_jax.train --config=configs/semi.py")
    page = (workdir / "report" / "index.html").read_text("utf-8")
    assert metrics["run"]["begun"][:10] in page and 'href="clips.html#' in page and 'href="../folds.csv"' in page


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
    """Killed within stages: as soon as they leave something that the next start goes on with."""
    folder = tmp_path / "killed"
    traces = ["features/image-*/000-000000.safetensors", "checkpoints/tuning/0", "self_training/round-01.json"]
    for trace in traces:
        with open(tmp_path / "log", "w") as log:
            process = subprocess.Popen(command("train", *TINY, f"--workdir={folder}"), stderr=log)
        while process.poll() is None and not list(folder.glob(trace)):
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert list(folder.glob(trace)) and not (folder / "metrics.json").exists(), (tmp_path / "log").read_text()
    run("train", *TINY, f"--workdir={folder}")
    assert predictions(folder) == predictions(workdir)


def test_whatever_is_damaged_is_named_and_made_again(workdir, tmp_path):
    """Results and what they were made from: cut, emptied, flipped, removed and in another's place."""
    folder = tmp_path / "damaged"
    shutil.copytree(workdir, folder)

    def change(pattern, damaged):
        path = max(folder.glob(pattern), key=lambda path: path.stat().st_size)
        path.write_bytes(damaged(path.read_bytes()))
        return path

    damages = {
        "features/image-*/000-000000.safetensors": lambda content: content[:-3] + b"???",
        "features/text-*/000-000000.safetensors": lambda content: content[: len(content) // 2],
        "self_training/round-01.json": lambda _: (folder / "self_training/round-02.json").read_bytes(),
        "checkpoints/tuning/0/**/*": lambda _: b"",
        "checkpoints/ensemble.json": lambda content: content[:-9],
        "checkpoints/standardiser.safetensors": lambda content: content[:-1] + b"?",
        "predictions/test.csv": lambda content: content + b"one,happy\n",
    }
    paths = [change(pattern, damaged) for pattern, damaged in damages.items()]
    (folder / "report" / "index.html").unlink()
    command_line = command("predict", f"--workdir={folder}", "--input=/nowhere.mp4")
    refused = subprocess.run(command_line, capture_output=True, text=True)
    assert refused.returncode == 1 and not refused.stdout
    assert "checkpoints/ensemble.json is not as the run wrote it" in refused.stderr.splitlines()[-1]
    done = run("train", f"--workdir={folder}")
    for path in (*paths, folder / "report" / "index.html"):
        named = path.relative_to(folder)
        assert str(Path(*named.parts[:3])) in done.stderr, (named, done.stderr)
    assert predictions(folder) == predictions(workdir) and (folder / "report" / "index.html").exists()
    assert not run("train", f"--workdir={folder}").stderr


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    trials = Trials(tmp_path_factory.mktemp("trials"), np.random.default_rng(7))
    yield trials
    trials.warm.close()


def test_a_lost_report_and_damaged_predictions_cost_no_training(workdir, tmp_path, trials):
    """Rounds of self-training are gone, and not missed; features stay as they are."""
    folder = tmp_path / "lost"
    shutil.copytree(workdir, folder)
    (folder / "report" / "index.html").unlink()
    (folder / "predictions" / "test.csv").write_text("name,discrete\n")
    shutil.rmtree(folder / "self_training")
    stores = {path: path.stat().st_ino for path in folder.glob("features/*/*")}
    said = trials.start(["mer_jax.train", f"--workdir={folder}"])
    assert "index.html: not as the run wrote it" in said and "self-training:" not in said
    assert predictions(folder) == predictions(workdir) and (folder / "report" / "index.html").exists()
    assert stores == {path: path.stat().st_ino for path in folder.glob("features/*/*")}
    assert not (folder / "self_training").exists()


def test_a_damaged_ensemble_costs_the_last_training_alone(workdir, tmp_path, trials):
    folder = tmp_path / "damaged"
    shutil.copytree(workdir, folder)
    largest = max(folder.glob("checkpoints/ensemble/**/*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    rounds = {path: path.stat().st_ino for path in folder.glob("self_training/*")}
    said = trials.start(["mer_jax.train", f"--workdir={folder}"])
    assert "checkpoints/ensemble" in said and "self-training:" in said
    assert predictions(folder) == predictions(workdir)
    assert rounds == {path: path.stat().st_ino for path in folder.glob("self_training/*")}
    assert not trials.start(["mer_jax.train", f"--workdir={folder}"]).count("made again")


def test_no_damage_is_used_in_silence(workdir, trials):
    """A few trials of benchmarks/damage.py."""

    def command(copy, new):
        return ["mer_jax.train", f"--workdir={copy}"], {}

    case = Case("finished run", 1, workdir, workdir, "", command, in_copy=True)
    rows = list(trials.rows(case, 4))
    assert len(rows) == 4 and {row["outcome"] for row in rows} <= set(RIGHT), rows


def test_eight_devices(workdir, tmp_path):
    eight = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    run("train", *TINY, f"--workdir={tmp_path}", XLA_FLAGS=eight)
    for split in SPLITS:
        ours, theirs = (read_probabilities(folder, split) for folder in (tmp_path, workdir))
        assert ours.keys() == theirs.keys()
        # Sums over devices round differently, and training amplifies it; another seed is off by twenty times as much.
        assert np.mean([np.abs(ours[name] - theirs[name]).max() for name in ours]) < 0.01


def test_predict(workdir, cache_folder, tmp_path):
    (tmp_path / "broken.mp4").write_text("not a video")
    clip = sorted(cache_folder.glob("sample-36-30-20/video-unlabeled/*.mp4"))[0]
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


def test_the_notebook_runs_on_a_run(workdir, cache_folder, tmp_path, monkeypatch):
    """All but its first code cell, which says where run and clips are; in a process of its own."""
    cells = json.loads(Path("docs/recognizer.ipynb").read_text("utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    clips = sorted(cache_folder.glob("sample-36-30-20/video-unlabeled/*.mp4"))[:3]
    paths = ", ".join(f"Path({str(clip)!r})" for clip in clips)
    program = "\n".join([f"from pathlib import Path; run = {str(workdir)!r}; clips = [{paths}]", *code[1:]])
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4 + 3 and lines[3].startswith("broken.mp4 None cannot decode")
    assert [line.split()[:2] for line in lines[4:]] == [["0.0", "1.0"], ["0.5", "1.5"], ["1.0", "2.0"]]


def test_candidates_are_written_in_the_order_of_the_clips_and_labels(tmp_path):
    """Clips of several splits lie between each other; columns are the data set's labels, not sorted."""
    splits = ("test", "train", "unlabeled", "test", "unlabeled", "unlabeled")
    clips = tuple(Clip(name, split) for name, split in zip("zyxabc", splits, strict=True))
    dataset = Dataset("toy", ("sad", "happy"), clips, {})
    predictions = {"unlabeled": np.array([[0.75, 0.25], [0.125, 0.875], [0.5, 0.5]])}
    predictions["test"] = np.array([[0.25, 0.75], [1.0, 0.0]])
    import_command("train").write_candidates(dataset, predictions, tmp_path)
    assert {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()} == {
        "unlabeled.csv": "name,discrete\nx,sad\nb,happy\nc,sad\n",
        "unlabeled_probs.csv": "name,sad,happy\nx,0.750000,0.250000\nb,0.125000,0.875000\nc,0.500000,0.500000\n",
        "test.csv": "name,discrete\nz,happy\na,sad\n",
        "test_probs.csv": "name,sad,happy\nz,0.250000,0.750000\na,1.000000,0.000000\n",
    }
    labelled = Dataset("toy", ("sad", "happy"), clips[1:2], {})
    none = dict.fromkeys(("unlabeled", "test"), np.zeros((0, 2)))
    import_command("train").write_candidates(labelled, none, tmp_path / "none")
    assert not (tmp_path / "none").exists()
