"""A run in a folder to hand on: it predicts what the run does, elsewhere, and says what it is."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from transformers import BertConfig, WavLMConfig

from mer_jax.features.encoder_settings import EncoderSettings, SpeechSettings, TextSettings
from mer_jax.features.stream_settings import SpeechStream
from mer_jax.fusion.ensemble import TrainedEnsemble
from mer_jax.models import Bert, WavLM
from mer_jax.recognition.handing_on import hand_on_run
from mer_jax.recognition.hub import pull, push
from mer_jax.recognition.recognizer import Recognizer
from mer_jax.recognition.runs import pinned
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.files import dump_json
from mer_jax.runtime.inventory import take_inventory
from mer_jax.settings import Settings
from tests.data.media_files import write_sound
from tests.hub import Hub
from tests.models.test_bert import SMALL as SMALL_BERT
from tests.models.test_hubert import SMALL
from tests.models.test_wavlm import POSITIONS
from tests.recognition.tiny_run import DIMS, LABELS, write_run

ROOT = Path(__file__).parents[2]
METRICS = {
    "dataset": {"name": "talks", "labels": list(LABELS), "modalities": ["text"], "counts": {"train": 1234, "test": 5}},
    "cv": {"waf": 0.5, "challenge": {"waf": 0.6}, "flattered": False, "cautions": ["few clips"]},
    "test": None,
    "votes": {"networks_alone": {"cv_waf": 0.45}},
}
NOT_NEEDED = ("array_record", "etils", "grain", "importlib_resources", "jaxtyping", "jinja2", "matplotlib", "openai")
NOT_NEEDED += ("ml_collections", "optax", "orbax", "sklearn", "tensorflow_datasets", "tensorstore", "torch")
NOT_NEEDED += ("transformers",)


@pytest.fixture
def run(tmp_path):
    """A run whose text features are those of its encoder."""
    workdir = write_run(tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text("utf-8"))
    config["settings"]["data"]["modalities"] = "text"
    dump_json(workdir / "config.json", config)
    dump_json(workdir / "metrics.json", METRICS)
    return workdir


def scores(ensemble):
    """Probabilities and attention of five clips, some of which lack a modality."""
    random = np.random.default_rng(0)
    features = {name: random.standard_normal((5, width)).astype(np.float32) for name, width in DIMS.items()}
    present = {name: np.arange(5) % (i + 2) > 0 for i, name in enumerate(DIMS)}
    return features, present, ensemble(features, present, [None] * 5)


def test_the_folder_holds_the_runs_own_networks(run, tmp_path):
    assert hand_on_run(run, tmp_path / "out") == ["3 labels, speech+text"]
    _, _, expected = scores(TrainedEnsemble(run / "checkpoints"))
    features, present, found = scores(TrainedEnsemble(tmp_path / "out" / "checkpoints"))
    np.testing.assert_array_equal(found[0], expected[0])
    compiled = jax.export.deserialize((tmp_path / "out" / "fusion.stablehlo").read_bytes())
    for ours, theirs in zip(compiled.call(features, present), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert "/gone" not in (tmp_path / "out" / "config.json").read_text("utf-8")  # the data's folder
    assert not list(tmp_path.glob(".*")) and not list(tmp_path.glob("out/checkpoints/*/"))  # no Orbax, nothing half


def test_encoders_that_the_run_never_used_are_not_asked_for(tmp_path):
    run = write_run(tmp_path / "run", {"speech": 3})
    config = json.loads((run / "config.json").read_text("utf-8"))
    config["settings"]["encoders"]["text"]["source"] = "nobody/nothing"
    dump_json(run / "config.json", config)
    dump_json(run / "metrics.json", METRICS)
    hand_on_run(run, tmp_path / "out")
    assert [*json.loads((tmp_path / "out" / "encoders.json").read_text("utf-8"))["encoders"]] == ["speech"]


def test_the_card_says_what_it_is(run, tmp_path):
    hand_on_run(run, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    for said in (
        ", ".join(LABELS),
        "- train: 1,234 clips",
        "| cross-validated | 50.0 % |",
        "counts | 60.0 % |",
        "- few",
        "45.0 % cross-validated",
    ):
        assert said in card, said
    assert "| text | bundled/baichuan |" in card and "test, the ensemble" not in card
    dump_json(
        run / "metrics.json", METRICS | {"cv": {"waf": 0.6}}
    )  # an earlier version's, which had the other score alone
    hand_on_run(run, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "counts | 60.0 % |" in card and "| cross-validated" not in card


def test_encoders_from_the_hub_stay_at_the_commits_that_the_run_used():
    encoders = EncoderSettings(speech=SpeechSettings(source="a/b@main"), text=TextSettings(source="bundled/baichuan"))
    used = {"speech": {"source": "a/b@main", "commit": "1f"}, "text": {"source": "bundled/baichuan", "commit": ""}}
    used["image"] = {"source": "another/one", "commit": "2e"}  # of a run with other settings
    used["more"] = {"source": "c/d", "commit": "3d"}
    settings = Settings(encoders=encoders, streams={"more": SpeechStream(source="c/d", modality="speech")})
    expected = replace(encoders, speech=SpeechSettings(source="a/b@1f"))
    at_commits = pinned(settings, {"checkpoints": used})
    assert at_commits.encoders == expected and at_commits.streams["more"].source == "c/d@3d"
    assert pinned(settings, {}) == settings


def test_a_second_export_replaces_the_first_and_nothing_else(run, tmp_path):
    out = tmp_path / "out"
    hand_on_run(run, out)
    (out / "outdated").touch()
    hand_on_run(run, out)
    assert not (out / "outdated").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="other holds other files: give another --output"):
        hand_on_run(run, tmp_path / "other")
    take_inventory(run, ["config.json"])
    with pytest.raises(UsageError, match="run holds other files: give another --output"):
        hand_on_run(run, run)  # which would be gone
    (out / "checkpoints" / "ensemble.safetensors").write_bytes(b"no weights")
    with pytest.raises(DataError, match=r"ensemble.safetensors is not as the run wrote it"):
        Recognizer.load(out)


def test_it_predicts_elsewhere_without_what_trains(tmp_path):
    """By encoders whose configs and files say least of themselves."""
    bert = BertConfig(**SMALL_BERT | {"max_position_embeddings": 512})
    Bert(bert, rngs=nnx.Rngs(0)).save_pretrained(tmp_path / "bert")
    WavLM(WavLMConfig(**SMALL, **POSITIONS), rngs=nnx.Rngs(0)).save_pretrained(tmp_path / "wavlm")
    (tmp_path / "bert" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n好", "utf-8")
    run = write_run(tmp_path / "run", {"speech": 64, "text": 64})
    config = json.loads((run / "config.json").read_text("utf-8"))
    for modality, name in {"speech": "wavlm", "text": "bert"}.items():
        config["settings"]["encoders"][modality] |= {"source": str(tmp_path / name), "keep_layers": 3}
    dump_json(run / "config.json", config)
    dump_json(run / "metrics.json", METRICS)
    hand_on_run(run, tmp_path / "out")
    write_sound(tmp_path / "clip.wav", [np.arange(16_000, dtype=np.int16)[None]], "pcm_s16le", "mono")
    # Flax imports Optax itself.
    blocked = f"import sys; from flax import nnx; sys.modules.update(dict.fromkeys({NOT_NEEDED!r}))\n"
    code = "import mer_jax, json; print(json.dumps(mer_jax.Recognizer.load(sys.argv[1])(sys.argv[2], text='好')))"
    command = [sys.executable, "-c", blocked + code, tmp_path / "out", tmp_path / "clip.wav"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    expected = Recognizer.load(run)(tmp_path / "clip.wav", text="好")
    assert json.loads(done.stdout) == expected and {*expected["attention"]} == {"speech", "text"}


def test_what_predicting_takes_is_part_of_what_everything_takes(run, tmp_path):
    hand_on_run(run, tmp_path / "out")
    needed = (tmp_path / "out" / "requirements.txt").read_text("utf-8").splitlines()
    assert {*needed} < {*(ROOT / "requirements.txt").read_text("utf-8").splitlines()}


def test_two_modules_alone_import_what_predicting_does_without():
    """Others take array types, and config classes, from them."""
    pattern = re.compile(r"^(from|import) (jaxtyping|transformers)\b", re.MULTILINE)
    assert not [path for path in (ROOT / "mer_jax").rglob("*.py") if pattern.search(path.read_text("utf-8"))]


def test_the_hub_takes_it_and_gives_it_back(run, tmp_path, monkeypatch):
    hand_on_run(run, tmp_path / "out")
    (tmp_path / "hub").mkdir()
    with Hub(tmp_path / "hub") as hub:
        hub.serve_this_process(monkeypatch, tmp_path / "cache")
        monkeypatch.setenv("HF_TOKEN", "hf_token")
        push(tmp_path / "out", "me/talks")
        folder = pull("me/talks")
        names = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        assert names == {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()}
        np.testing.assert_array_equal(
            scores(TrainedEnsemble(folder / "checkpoints"))[2][0], scores(TrainedEnsemble(run / "checkpoints"))[2][0]
        )
        hub.faults["upload"] = 403
        with pytest.raises(DataError, match=r"me/talks: not uploaded \(.*\); .*out is whole, push it again"):
            push(tmp_path / "out", "me/talks")
    with pytest.raises(DataError, match="me/none: no such folder, and the hub did not give it"):
        pull("me/none")
