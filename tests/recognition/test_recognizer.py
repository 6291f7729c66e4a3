"""Files -> emotions: what an ensemble of two networks says of files whose embeddings are given."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mer_jax.data.clips import NOT_VALID, Absent
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.data.streams import Unreadable
from mer_jax.features.encoders import Encoder
from mer_jax.features.readers import Chunk, TextReader
from mer_jax.features.standardise import Standardiser
from mer_jax.fusion.ensemble import TrainedEnsemble
from mer_jax.metrics import softmax
from mer_jax.recognition import recognizer as module
from mer_jax.recognition.distance import Cloud, Familiar
from mer_jax.recognition.files import File
from mer_jax.recognition.recognizer import Recognizer
from tests.recognition.tiny_run import DIMS, LABELS, TEMPERATURES, networks, write_ensemble

SPEECH = np.array([[2.0, -4, 6], [8, 2, 0]], np.float32)  # of files "0" and "1"
SENTENCES = {"hi": (4.0, -2.0), "ho": (1.0, 3.0)}


class SoundReader:
    """An embedding is its own only chunk."""

    sample_rate = 16_000

    def chunks(self, embedding):
        return [Chunk(embedding[None])]


def tokenize(texts):
    """A ranked text's embedding in thousandths, as tokens; "hi" and "ho" alone are ranked, by themselves."""
    return [[int(1000 * x) + 10_000 for x in SENTENCES[text.split("|")[-1]]] for text in texts]


def encoder(modality, reader, embed):
    return Encoder(modality, reader, "", lambda: embed, buckets=(2,), budget=8)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A recognizer of files "0" and "1", and of others that are given; `**shape` of its ensemble."""
    contents = {str(i): {"speech": x} for i, x in enumerate(SPEECH)}

    def make(others=None, familiar=None, caution="", at_home=False, **shape):
        half = Standardiser.identity(DIMS)
        half = half._replace(scale={name: x / 2 for name, x in half.scale.items()})
        write_ensemble(tmp_path, half, **{"temperatures": TEMPERATURES, **shape})
        of = contents | (others or {})
        monkeypatch.setattr(module, "read_files", lambda files, *_: iter([of[file.path.name] for file in files]))
        encoders = {
            "speech": encoder("speech", SoundReader(), lambda data, lengths: (data[:, 0], lengths)),
            "text": encoder(
                "text", TextReader(tokenize, {}, "zh-1", 8), lambda data, lengths: ((data - 10_000) / 1000.0, lengths)
            ),
        }
        ensemble = TrainedEnsemble(tmp_path)
        return Recognizer(ensemble, encoders, lambda texts: {}, ExtractionSettings(), "", familiar, caution, at_home)

    return make


@pytest.mark.parametrize("text", ["hi", ""])
def test_probabilities_are_of_the_mean_logits_over_the_folds(made, text):
    """Text is in the first file, or in none."""
    first, second = made()(["a/0", "a/1"], [text, ""])
    embeddings = {"speech": SPEECH, "text": np.array([SENTENCES.get(text, (0, 0)), (0, 0)], np.float32)}
    halved = {modality: x / 2 for modality, x in embeddings.items()}
    present = {"speech": np.ones(2, bool), "text": np.array([bool(text), False])}
    outputs = [network(halved, present) for network in networks()]
    temperatures = np.array([TEMPERATURES[bool(text)], TEMPERATURES[0]])[:, None]
    probs = softmax(np.mean([output.logits for output in outputs], axis=0) / temperatures)
    attention = np.mean([output.attention for output in outputs], axis=0)
    for i, line in enumerate((first, second)):
        assert line["file"] == f"a/{i}" and line["label"] == LABELS[probs[i].argmax()]
        assert line["probabilities"] == pytest.approx(dict(zip(LABELS, probs[i].tolist(), strict=True)), abs=6e-5)
        assert line["attention"] == pytest.approx(dict(zip(DIMS, attention[i].tolist(), strict=True)), abs=6e-5)
    assert first["used"] == (["speech", "text"] if text else ["speech"])
    assert second["used"] == ["speech"] and second["absent"] == {"text": "no transcript"}
    assert first["absent"] == ({} if text else {"text": "no transcript"})
    assert list(first) == ["file", "label", "probabilities", "attention", "used", "absent"]


def test_one_path_gives_one_line_and_a_text_is_that_of_all(made):
    recognizer = made()
    one = recognizer(Path("0"), text="hi")
    assert recognizer(["0", "0"], text="hi") == [one, one] and one["used"] == ["speech", "text"]
    assert recognizer([]) == []


def test_bad_files_stand_in_their_place_and_cost_themselves(made):
    others = {"bad": Unreadable("cannot decode: no media"), "mute": {"speech": Absent("silent")}}
    recognizer = made(others)
    lines = recognizer(["bad", "0", "mute", "1"])
    assert lines[0] == {"file": "bad", "error": "cannot decode: no media"}
    absent = {"speech": "silent", "text": "no transcript"}
    assert lines[2] == {"file": "mute", "error": "nothing in it can be used", "absent": absent}
    assert [lines[1], lines[3]] == recognizer(["0", "1"])
    assert recognizer("mute", text="hi")["used"] == ["text"]
    assert "label" not in recognizer("bad", text="hi")


def test_lines_come_a_shard_at_a_time_and_those_of_groups_as_a_whole(made, monkeypatch):
    monkeypatch.setattr(module, "SHARD", 2)
    recognizer = made()
    files = [File(Path(name), group="a") for name in ("0", "1", "0")]
    assert [len(lines) for lines in recognizer.shards(files)] == [2, 1]
    assert next(iter(recognizer.shards(files[2:]))) == list(recognizer.shards(files))[1]  # as a later start goes on
    recognizer.ensemble.shape = replace(recognizer.ensemble.shape, in_groups=True)
    assert [len(lines) for lines in recognizer.shards(files)] == [3]
    assert list(recognizer.shards([])) == []


@pytest.mark.parametrize("in_groups", [True, False])
def test_groups_of_the_input_count_where_the_run_standardised_within_groups(tmp_path, in_groups):
    """By hand: the group's two files are moved by their sum over 2 + 5."""
    write_ensemble(tmp_path, in_groups=in_groups)
    features = {"speech": SPEECH, "text": np.zeros((2, 2), np.float32)}
    present = {"speech": np.ones(2, bool), "text": np.zeros(2, bool)}
    probs, _ = TrainedEnsemble(tmp_path)(features, present, ["a", "a"])
    moved = (SPEECH - SPEECH.sum(0) / 7) * np.sqrt(7 / (((SPEECH - SPEECH.mean(0)) ** 2).sum(0) + 5))
    inputs = {**features, "speech": moved if in_groups else SPEECH}
    expected = softmax(np.mean([network(inputs, present).logits for network in networks()], axis=0))
    np.testing.assert_allclose(probs, expected, atol=1e-5)


def test_embeddings_out_of_all_proportion_to_those_that_the_run_has_learned_from_are_absent(made):
    """The larger one by too much; alone in the input, it would be like itself."""
    first, second = made(usual_sizes={"speech": 7e-4, "text": 1.0})(["0", "1"], ["hi", "hi"])
    assert not first["absent"]
    assert second["absent"]["speech"].startswith("its largest value (8) is out of all proportion")


def test_files_without_a_text_are_heard_where_the_run_has_that_done(made):
    recognizer = made()
    ranked = []
    recognizer.hear = lambda files: [file._replace(text=file.text or "ho") for file in files]
    recognizer.rank = lambda texts: ranked.append(texts) or {}
    heard = recognizer(["0", "0"], ["hi", ""])
    assert heard[1]["used"] == ["speech", "text"] and heard[1] != heard[0] and ranked == [["hi", "ho"]]


def test_a_modality_without_an_encoder_is_absent(made):
    recognizer = made()
    del recognizer.encoders["text"]
    assert recognizer("0", text="hi")["absent"] == {"text": "no ready-made feature"}


def test_embeddings_by_each_folds_prompts_are_read_by_fold(made):
    recognizer = made()
    rows = {0: np.arange(6.0).reshape(2, 3), 1: "no frames"}
    features = recognizer.features("speech", rows, 2)
    assert features.embeddings.shape == (2, 2, 3) and features.embeddings[1, 0].tolist() == [3, 4, 5]
    assert features.present.tolist() == [True, False] and features.reasons == {1: "no frames"}
    assert recognizer.features("speech", {0: np.ones((1, 3))}, 1).embeddings.tolist() == [[1, 1, 1]]


def familiar(centre, combinations):
    """Of training clips around a speech embedding, about as far from it as its length."""
    spread = np.eye(3) * np.linalg.norm(centre)
    cloud = Cloud.of(np.concatenate([centre + spread, centre - spread] * 9))
    return Familiar({"speech": cloud}, frozenset(map(frozenset, combinations)))


def test_a_file_far_from_the_training_data_is_warned_of(made):
    near = familiar(SPEECH[0], [{"speech"}])
    first, second = made(familiar=near)(["0", "1"])
    distance = near.clouds["speech"].distance(SPEECH)[1]
    assert distance > module.FAR and "warning" not in first
    assert second["warning"] == f"unlike what the run has learned from (speech {distance:.1f} times as far as that)"


@pytest.mark.parametrize(
    "at_home, usual, warned", [(False, True, True), (True, True, False), (True, False, True), (True, None, True)]
)
def test_the_caution_of_a_run_goes_where_the_clips_are_those_that_it_is_made_for(made, at_home, usual, warned):
    """usual: whether training clips had these modalities; None: nothing is known of the training data."""
    known = None if usual is None else familiar(SPEECH[0], [{"speech"}] if usual else [{"speech", "text"}])
    line = made(familiar=known, caution="for drawings", at_home=at_home)("0")
    assert line.get("warning") == ("for drawings" if warned else None)


def test_small_inputs_go_in_small_batches(made):
    sizes = []
    recognizer = made()
    program = recognizer.programs["speech"]
    recognizer.programs["speech"] = lambda data, lengths: (sizes.append(len(data)), program(data, lengths))[1]
    recognizer(["0"])
    recognizer(["0", "1"])
    recognizer(["0", "1"] * 6)
    assert sizes == [1, 4, 4, 4, 4]


def test_modalities_that_do_not_count_are_absent_whatever_is_in_the_file(made):
    whole, sound, neither = (File(Path("0"), "hi", hidden=hidden) for hidden in ((), ("text",), ("speech", "text")))
    alone = made().batch([whole, sound, neither, File(Path("0"))])
    assert alone[0]["used"] == ["speech", "text"] and alone[1]["absent"] == {"text": NOT_VALID}
    assert alone[1]["probabilities"] == alone[3]["probabilities"] != alone[0]["probabilities"]
    assert alone[2]["absent"] == {"speech": NOT_VALID, "text": NOT_VALID} and "label" not in alone[2]
