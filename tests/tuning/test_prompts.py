"""A run's prompts from the labelled clips to the encoder that every later command loads, on a small backbone."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from mer_jax.checkpoints.pytrees import load_trained
from mer_jax.data.clips import Clip
from mer_jax.features import encoders
from mer_jax.features.encoder_settings import EncoderSettings, VideoSettings
from mer_jax.features.extraction import encode
from mer_jax.features.input_settings import InputSettings
from mer_jax.metrics import waf
from mer_jax.models.clip import CLIP
from mer_jax.models.emovclip import prompt_sets
from mer_jax.models.preprocess import OPENAI
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.random import named_key
from mer_jax.tuning.prompts import PromptTuning, linear_probe
from mer_jax.tuning.tune_settings import PerTower, TuneSettings
from tests.tuning.conftest import CONFIG, backbone, tokenizer

LABELS, FOLDS = np.arange(12) % 2, np.arange(12) // 2 % 3
VIDEO = VideoSettings(source="bundled/clip", dtype="float32", num_frames=3)
INPUTS = InputSettings(encoders=EncoderSettings(video=VIDEO))
SETTINGS = TuneSettings(
    num_prompts=PerTower(2, 2),
    depth=PerTower(2, 2),
    batch_size=6,
    micro_batch=0,
    epochs=4,
    warmup_epochs=1,
    learning_rate=0.03,
)


@pytest.fixture(scope="module", autouse=True)
def small_images():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoders, "frames_as_trained", lambda source, modality: (16, OPENAI))
        yield


def tuning(workdir, **changes):
    prompts = PromptTuning(replace(SETTINGS, **changes), INPUTS, ("left", "top"), 3, workdir)
    # The tokenizer reads the first letters alone, which here are the context's: from behind they are the class's.
    prompts._clip = backbone(), lambda texts: tokenizer([text[::-1] for text in texts])
    return prompts


@pytest.fixture(scope="module")
def tuned(clips, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("tuned")
    return workdir, tuning(workdir).tune(clips, LABELS, FOLDS)


def logits_of(prompts, embeddings, workdir):
    """Of each set of prompts on the disk [R, N, C], from its clips' embeddings [R, N, P]."""
    model = prompts.build(named_key(7))
    sets = load_trained(workdir / "checkpoints" / "prompts", prompt_sets([model] * len(embeddings)))
    logits = []
    for number, rows in enumerate(embeddings):
        nnx.update(model, jax.tree.map(lambda leaf, number=number: leaf[number], sets))
        logits.append(np.asarray(model.logits(jnp.asarray(rows), model.class_features())))
    return logits


def test_the_prompts_on_the_disk_score_what_was_kept(tuned, clips):
    workdir, found = tuned
    prompts = tuning(workdir)
    curve = np.array(found.curves["waf"])  # [R, epochs]
    assert curve.shape == (3, 4) and (curve.argmax(axis=1) < 3).any()  # some last prompts are not the best
    embeddings = np.asarray(encode(clips, prompts.trained_encoder(), workdir, INPUTS.extraction).embeddings)
    for fold, logits in enumerate(logits_of(prompts, embeddings, workdir)):
        assert waf(LABELS[fold == FOLDS], logits[fold == FOLDS]) == pytest.approx(curve[fold, -1])
    assert found.scores["tuned"] == pytest.approx(curve[:, -1].mean())
    assert found.scores["tuned_best"] == pytest.approx(curve.max(axis=1).mean())
    assert found.scores["mode"] == "per_fold"


def test_the_trained_encoder_is_the_one_that_tuning_gave(tuned):
    workdir, found = tuned
    assert tuning(workdir).trained_encoder().fingerprint == found.encoder.fingerprint
    assert tuning(workdir).plain_encoder().fingerprint != found.encoder.fingerprint


def test_labels_of_a_fold_change_how_its_own_prompts_score_and_not_how_they_train(tuned, clips, tmp_path):
    _, found = tuned
    flipped = tuning(tmp_path).tune(clips, np.where(FOLDS == 1, 1 - LABELS, LABELS), FOLDS)
    for name, alike in (("loss", True), ("waf", False)):
        assert (flipped.curves[name][1] == found.curves[name][1]) == alike
    assert all(flipped.curves["loss"][number] != found.curves["loss"][number] for number in (0, 2))


def test_zero_shot_and_the_pictures(tuned, clips):
    """The zero-shot score is the mean over folds of plain CLIP's; a picture shows the first clip of each class."""
    workdir, found = tuned
    prompts = tuning(workdir)
    plain = prompts.build(named_key(0), prompted=False)
    assert not plain.vision_prompts.size and not plain.text_prompts.size
    embeddings = np.asarray(encode(clips, prompts.plain_encoder(), workdir, INPUTS.extraction).embeddings)
    logits = np.asarray(plain.logits(jnp.asarray(embeddings), plain.class_features()))
    expected = np.mean([waf(LABELS[fold == FOLDS], logits[fold == FOLDS]) for fold in range(3)])
    assert found.scores["zero_shot"] == pytest.approx(expected)
    assert [(strip["clip"], strip["label"]) for strip in found.scores["strips"]] == [("0", "0"), ("1", "1")]
    assert sorted(path.name for path in (workdir / "report" / "frames").iterdir()) == ["0.jpg", "1.jpg"]


def test_all_labelled_clips_train_one_set_that_is_scored_on_all_of_them(clips, tmp_path):
    prompts = tuning(tmp_path, mode="all_labelled", epochs=2)
    broken = replace(clips[5], media=None)
    some = [*clips[:5], broken, *clips[6:]]  # a clip without frames is left out
    found = prompts.tune(some, LABELS, FOLDS)
    assert found.scores["mode"] == "all_labelled" and np.shape(found.curves["loss"]) == (1, 2)
    embeddings = np.asarray(encode(clips, found.encoder, tmp_path, INPUTS.extraction).embeddings)
    (logits,), read = logits_of(prompts, embeddings[None], tmp_path), np.arange(12) != 5
    assert found.scores["tuned"] == pytest.approx(waf(LABELS[read], logits[read]))
    assert found.encoder.fingerprint == tuning(tmp_path, mode="all_labelled").trained_encoder().fingerprint


def test_without_frames_nothing_is_tuned_and_the_plain_encoder_is_left(tmp_path, capsys):
    sounds = [Clip(str(i), "train", label=str(i % 2)) for i in range(12)]
    found = tuning(tmp_path).tune(sounds, LABELS, FOLDS)
    assert (found.scores, found.curves) == (None, None) and found.encoder.modality == "video"
    assert "no labelled clip has frames" in capsys.readouterr().err
    assert not (tmp_path / "checkpoints").exists()


def test_a_linear_probe_is_scored_on_the_fold_that_it_has_not_seen():
    """One number tells the classes apart, but in fold 0 the wrong way round: there nothing is right, elsewhere all."""
    labels, fold_of = np.arange(16) % 2, np.arange(16) // 4
    numbers = (2.0 * labels - 1) * np.where(fold_of == 0, -1, 1)
    embeddings = np.stack([numbers, np.ones(16)], axis=1)
    assert linear_probe(embeddings, labels, fold_of) == 0.75
    assert linear_probe(np.stack([2.0 * labels, np.ones(16)], axis=1), labels, fold_of) == 1.0


def test_a_linear_probe_of_one_class_predicts_it():
    embeddings = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    assert linear_probe(embeddings, np.array([0, 1]), np.array([0, 1])) == 0.0
    assert linear_probe(embeddings, np.array([0, 0]), np.array([0, 1])) == 1.0
    assert linear_probe(embeddings, np.array([0, 0]), np.array([1, 1])) == 1.0


def test_a_checkpoint_without_a_temperature_tunes_no_prompts(tmp_path):
    CLIP(CONFIG, rngs=nnx.Rngs(0)).save_pretrained(tmp_path)
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    del tensors["logit_scale"]
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    inputs = InputSettings(encoders=EncoderSettings(video=VideoSettings(source=str(tmp_path))))
    with pytest.raises(DataError, match="hold no logit_scale"):
        PromptTuning(SETTINGS, inputs, ("left", "top"), 3, tmp_path).build(jax.random.key(0))


def test_the_setting_of_attention_reaches_both_towers(tmp_path):
    inputs = InputSettings(encoders=EncoderSettings(video=replace(VIDEO, attention="cudnn")))
    clip = PromptTuning(SETTINGS, inputs, ("left", "top"), 3, tmp_path).build(jax.random.key(0)).clip
    assert clip.vision.layers.attention.impl == clip.text.layers.attention.impl == "cudnn"
