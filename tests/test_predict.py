"""Files -> emotions: which files there are, and what an ensemble of two networks says of two of them."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mer_jax.data.dataset import FolderData
from mer_jax.features.embeddings import Features
from mer_jax.features.standardise import Standardiser
from mer_jax.fusion.ensemble import Shape, TrainedEnsemble, save_ensemble
from mer_jax.metrics import softmax
from mer_jax.models.fusion import AttentionFusion
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import dump_json, load_json
from mer_jax.runtime.run import load_settings
from mer_jax.runtime.settings import as_dict
from mer_jax.settings import Settings
from tests.commands import import_command

module = import_command("predict")
LABELS = ("calm", "glad", "sad")
DIMS = {"speech": 3, "text": 2}
TEMPERATURES = (2.0, 0.5)  # with one and with two modalities


def networks():
    return [AttentionFusion(DIMS, 4, len(LABELS), rngs=nnx.Rngs(seed)) for seed in (3, 5)]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A finished run whose features are divided by 2."""
    folder = tmp_path_factory.mktemp("run")
    settings = Settings(variant="folder", data=FolderData(root="/gone", modalities="speech+text"))
    dump_json(folder / "config.json", {"settings": as_dict(settings)})
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(nnx.state(each, nnx.Param) for each in networks()))
    half = Standardiser.identity(DIMS)
    half = half._replace(scale={name: x / 2 for name, x in half.scale.items()})
    save_ensemble(folder / "checkpoints", Shape(LABELS, DIMS, 4, 2, temperatures=TEMPERATURES), params, half)
    return folder


SPEECH = Features(np.array([[2.0, -4, 6], [8, 2, 0]], np.float32), np.ones(2, bool), {})


@pytest.mark.parametrize("with_text", [True, False])
def test_probabilities_are_of_the_mean_logits_over_the_folds(workdir, monkeypatch, with_text):
    """Text is in the first file, or in none: then nothing tells how wide it would have been."""
    text = Features(np.zeros((2, 0), np.float32), np.zeros(2, bool), {0: "no transcript", 1: "no transcript"})
    if with_text:
        text = Features(np.array([[4.0, -2], [0, 0]], np.float32), np.array([True, False]), {1: "no transcript"})
    seen = []

    def features(self, modality, with_rankings=True):
        seen.extend((clip.media, clip.transcript, clip.audio_track) for clip in self.clips)
        return {"speech": SPEECH, "text": text}[modality]

    monkeypatch.setattr(module.Inputs, "features", features)
    paths = [Path("one.mp4"), Path("two.mp4")]
    settings, ensemble = load_settings(Settings, workdir), TrainedEnsemble(workdir / "checkpoints")
    first, second = module.predict(workdir, settings, ensemble, [module.File(path, "好") for path in paths])
    assert set(seen) == {(path, "好", "") for path in paths}

    halved = {"speech": SPEECH.embeddings / 2, "text": np.array([[2.0, -1], [0, 0]], np.float32)}
    present = {"speech": SPEECH.present, "text": text.present}
    outputs = [network(halved, present) for network in networks()]
    temperatures = np.array([TEMPERATURES[with_text], TEMPERATURES[0]])[:, None]
    probs = softmax(np.mean([output.logits for output in outputs], axis=0) / temperatures)
    attention = np.mean([output.attention for output in outputs], axis=0)
    for i, line in enumerate((first, second)):
        assert line["file"] == str(paths[i]) and line["label"] == LABELS[probs[i].argmax()]
        assert line["probabilities"] == pytest.approx(dict(zip(LABELS, probs[i].tolist(), strict=True)), abs=6e-5)
        assert line["attention"] == pytest.approx(dict(zip(DIMS, attention[i].tolist(), strict=True)), abs=6e-5)
    assert first["used"] == (["speech", "text"] if with_text else ["speech"])
    assert second["used"] == ["speech"] and second["absent"] == {"text": "no transcript"}
    assert first["absent"] == ({} if with_text else {"text": "no transcript"})


def test_files_are_predicted_a_shard_at_a_time_and_groups_as_a_whole(workdir, monkeypatch):
    monkeypatch.setattr(module, "predict", lambda workdir, settings, ensemble, files: [file.path for file in files])
    settings, ensemble = load_settings(Settings, workdir), TrainedEnsemble(workdir / "checkpoints")
    settings = replace(settings, extraction=replace(settings.extraction, shard_clips=2))
    files = [module.File(name, group="a") for name in "abc"]

    def parts():
        return [part() for part in module.parts_of(workdir, settings, ensemble, files)]

    assert parts() == [["a", "b"], ["c"]]
    ensemble.shape = replace(ensemble.shape, in_groups=True)
    assert parts() == [["a", "b", "c"]]
    files.clear()
    assert parts() == []


def test_what_an_output_is_made_of_names_files_with_their_content_texts_and_groups(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    file = module.File(path, "hi", "g")
    before = module.described([file])
    assert module.described([file]) == before
    others = [[], [file, file], [file._replace(text="")], [file._replace(group=None)]]
    assert all(module.described(other) != before for other in others)
    path.write_bytes(b"xy")
    assert module.described([file]) != before


def test_an_output_of_another_text_is_refused(workdir, tmp_path):
    """Also where no file can be read, so that nothing has to be computed."""
    (tmp_path / "a.wav").write_bytes(b"no sound")
    (workdir / "metrics.json").touch()  # of a run of an earlier version, without an inventory
    command = [sys.executable, "-m", "mer_jax.predict", f"--workdir={workdir}", f"--input={tmp_path / 'a.wav'}"]

    def predict(*more):
        done = subprocess.run([*command, *more], capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr.splitlines()[-1]

    printed = predict("--text=hi")
    output = tmp_path / "lines.jsonl"
    assert printed[0] == 1 and "1 of 1 files cannot be decoded" in printed[2]
    assert predict("--text=hi", f"--output={output}") == (1, "", printed[2])
    assert output.read_text("utf-8") == printed[1]
    code, _, line = predict("--text=ho", f"--output={output}")
    assert code == 1 and line.startswith(f"error: {output}: not written by this command")
    assert output.read_text("utf-8") == printed[1]


def test_an_unfinished_run_is_named_before_anything_is_opened(workdir, tmp_path):
    dump_json(tmp_path / "config.json", load_json(workdir / "config.json"))
    command = [sys.executable, "-m", "mer_jax.predict", f"--workdir={tmp_path}", "--input=/nowhere.mp4"]
    done = subprocess.run(command, capture_output=True, text=True)
    line = f"error: {tmp_path}: its run is not finished; start the same mer_jax.train command again"
    assert (done.returncode, done.stdout, done.stderr.strip().splitlines()[-1]) == (1, "", line)


def test_media_of_files_and_folders_in_order(tmp_path):
    for name in ("b.mp4", "a.WAV", "notes.txt", "single.mkv"):
        (tmp_path / name).touch()
    single = str(tmp_path / "single.mkv")
    assert [file.path.name for file in module.media([single, str(tmp_path)])] == [
        "single.mkv",
        "a.WAV",
        "b.mp4",
        "single.mkv",
    ]
    (tmp_path / "empty").mkdir()
    for entry, message in (("empty", "no media file in it"), ("gone", "no such file or folder")):
        with pytest.raises(DataError, match=message):
            list(module.media([str(tmp_path / entry)]))


def test_what_looks_like_an_address_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["a:b.mp4", "concat:x.mp4", "#1.mp4", "%03d.mp4", "http:127.0.0.1:8080.mp4", "-", os.fsdecode(b"\xff.mp4")]
    for name in names:
        Path(name).touch()
    assert [str(file.path) for file in module.media(names)] == names


def test_a_table_says_which_text_and_group_a_file_has(tmp_path):
    table = tmp_path / "clips.csv"
    table.write_text('group,file,text\nanna,a.mp4,"hello, you"\n,sub/b.wav,\n', "utf-8")
    assert list(module.media([str(table)])) == [
        module.File(tmp_path / "a.mp4", "hello, you", "anna"),
        module.File(tmp_path / "sub" / "b.wav", "", None),
    ]
    table.write_text("file\nc.mp4\n", "utf-8")
    assert list(module.media([str(table)])) == [module.File(tmp_path / "c.mp4")]
    table.write_text("name\nc\n", "utf-8")
    with pytest.raises(DataError, match="no column 'file'; it has name"):
        list(module.media([str(table)]))


def test_a_table_of_other_systems_and_with_markers_of_what_is_missing(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b c.wav").touch()
    table = tmp_path / "clips.csv"
    table.write_text("file;text;group\nsub\\b c.wav;nan;NaN\nsub/b%20c.wav;None;g\n", "utf-8")
    path = tmp_path / "sub" / "b c.wav"
    assert list(module.media([str(table)])) == [module.File(path, "", None), module.File(path, "None", "g")]


def test_files_of_a_folder_that_are_no_media_are_said(tmp_path, capsys):
    for name in ("a.mp4", "._a.mp4", "notes.txt"):
        (tmp_path / name).touch()
    assert [file.path.name for file in module.media([str(tmp_path)])] == ["a.mp4"]
    assert capsys.readouterr().err == f"{tmp_path}: 2 files are no media: ._a.mp4, notes.txt\n"


@pytest.mark.parametrize("in_groups", [True, False])
def test_groups_of_the_input_count_where_the_run_standardised_within_groups(workdir, tmp_path, in_groups):
    """By hand: z is half of the features; the group's two files are moved by their sum over 2 + 5."""
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(nnx.state(each, nnx.Param) for each in networks()))
    save_ensemble(tmp_path, Shape(LABELS, DIMS, 4, 2, in_groups=in_groups), params, Standardiser.identity(DIMS))
    features = {"speech": SPEECH.embeddings, "text": np.zeros((2, 2), np.float32)}
    present = {"speech": np.ones(2, bool), "text": np.zeros(2, bool)}
    probs, _ = TrainedEnsemble(tmp_path)(features, present, ["a", "a"])
    z = SPEECH.embeddings
    moved = (z - z.sum(0) / 7) * np.sqrt(7 / (((z - z.mean(0)) ** 2).sum(0) + 5))
    inputs = {**features, "speech": moved if in_groups else z}
    expected = softmax(np.mean([network(inputs, present).logits for network in networks()], axis=0))
    np.testing.assert_allclose(probs, expected, atol=1e-5)


def test_embeddings_unlike_those_that_the_run_has_learned_from_are_absent(workdir, tmp_path, monkeypatch):
    """The larger one by too much; alone in the input, it would be like itself."""
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(nnx.state(each, nnx.Param) for each in networks()))
    shape = Shape(LABELS, DIMS, 4, 2, usual_sizes={"speech": 7e-4, "text": 1.0})
    save_ensemble(tmp_path, shape, params, Standardiser.identity(DIMS))
    text = Features(np.ones((2, 2), np.float32), np.ones(2, bool), {})
    monkeypatch.setattr(module.Inputs, "features", lambda self, modality: {"speech": SPEECH, "text": text}[modality])
    files = [module.File(Path(name)) for name in ("one.mp4", "two.mp4")]
    lines = module.predict(workdir, load_settings(Settings, workdir), TrainedEnsemble(tmp_path), files)
    first, second = (line["absent"] for line in lines)
    assert not first and second["speech"].startswith("its largest value (8) is out of all proportion")
