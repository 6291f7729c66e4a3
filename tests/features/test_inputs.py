"""Which clips a run reads, where each modality comes from, and when transcripts are ranked."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mer_jax.data.clips import Clip, Dataset, Problem
from mer_jax.data.corruptions import CorruptionSettings, CorruptionsSettings, TrainingCorruptionSettings
from mer_jax.data.dataset import FolderData
from mer_jax.features import inputs as module
from mer_jax.features.embeddings import Features
from mer_jax.features.encoder_settings import EncoderSettings, SpeechSettings
from mer_jax.features.input_settings import InputSettings
from mer_jax.features.inputs import Inputs, check_modalities, encoded_of, run_dataset
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.kept import Damaged, digest_of
from mer_jax.text.ranking_settings import RankingSettings
from mer_jax.text.rankings import Rankings
from mer_jax.text.transcript_settings import TranscriptSettings
from mer_jax.text.transcripts import Transcripts

CLIPS = (
    Clip("u", "unlabeled", transcript="我很难过"),
    Clip("b", "train", label="sad", transcript="今天真高兴"),
    Clip("a", "train", label="happy", transcript="今天真高兴"),
    Clip("t", "test", transcript="别走"),
)
BARE = CLIPS  # of media
CLIPS = tuple(replace(clip, media=Path("unread.mp4"), faces=Path("unread.npy")) for clip in CLIPS)
DATASET = Dataset("toy", ("happy", "sad"), CLIPS, {"t": "sad"})
RANKED = Rankings("fake", {"今天真高兴": ("happy", "sad"), "我很难过": ("sad", "happy")}, {"别走": "no idea"})


def settings(copies=0, template="zh-1", **data):
    """Of a folder; with so many corrupted copies of each labelled clip."""
    training = TrainingCorruptionSettings(probability=1.0, copies=copies)
    return InputSettings(
        variant="folder",
        data=FolderData(**data),
        ranking=RankingSettings(template=template),
        corruptions=CorruptionsSettings(training=training),
    )


@pytest.fixture
def encoded(monkeypatch):
    """What was encoded: names of the clips, and the encoder, which here is its settings and arguments."""
    calls = []

    def encode(clips, encoder, workdir, extraction):
        calls.append(([clip.name for clip in clips], encoder))
        present = np.array([clip.corruption is None for clip in clips])
        reasons = dict.fromkeys(np.flatnonzero(~present), "lost")
        return Features(np.ones((len(clips), 2), np.float32), present, reasons)

    monkeypatch.setattr(module, "encode", encode)
    for modality in ("speech", "image", "text"):
        build = lambda *arguments, modality=modality: (modality, *arguments)  # noqa: E731
        monkeypatch.setattr(module, f"{modality}_encoder", build)
    return calls


@pytest.fixture
def rankings_asked(monkeypatch):
    calls = []

    def rank(clips, labels, settings, dry_run):
        calls.append(([clip.transcript for clip in clips], labels, settings, dry_run))
        return RANKED

    monkeypatch.setattr(module, "rank_transcripts", rank)
    return calls


def test_transcripts_made_of_the_sound_are_ranked_and_encoded_as_the_data_set_s(
    tmp_path, encoded, rankings_asked, monkeypatch
):
    asked = []

    def transcribe(clips, own, extraction, dry_run):
        asked.append([clip.name for clip in clips])
        return Transcripts("fake", tuple(replace(clip, transcript=clip.transcript or "别走") for clip in clips))

    monkeypatch.setattr(module, "transcribe_clips", transcribe)
    dataset = replace(DATASET, clips=(*CLIPS[:3], replace(CLIPS[3], transcript="")))
    inputs = Inputs(dataset, replace(settings(), transcripts=TranscriptSettings("whisper")), tmp_path)
    inputs.features("text")
    assert rankings_asked[0][0] == [clip.transcript for clip in CLIPS] == [clip.transcript for clip in inputs.clips]
    assert asked == [["u", "b", "a", "t"]] and encoded[0][0] == asked[0]
    for own in (settings(), replace(settings(modalities="speech"), transcripts=TranscriptSettings("whisper"))):
        assert Inputs(dataset, own, tmp_path).transcripts == Transcripts("none", dataset.clips)
    assert len(asked) == 1


def test_ready_made_features_are_read_and_pooled_where_there_are_some(tmp_path, encoded):
    """Frames by hand: the mean of 1, 3 and 2, 6, then the variances 1 and 4."""
    np.save(tmp_path / "b.npy", np.array([[1.0, 2], [3, 6]]))
    np.save(tmp_path / "a.npy", np.array([7.0, 8, 9, 10]))
    files = {name: {"speech": tmp_path / f"{name}.npy"} for name in "ab"}
    dataset = replace(DATASET, clips=tuple(replace(clip, features=files.get(clip.name, {})) for clip in CLIPS))
    own = settings(modalities="text+speech", speech_feature="wav")
    assert tuple(own.sources) == ("speech", "text") and own.encoded == ("text",)
    features = Inputs(dataset, own, tmp_path).features("speech")
    np.testing.assert_array_equal(features.present, [False, True, True, False])
    np.testing.assert_array_equal(features.embeddings, [[0] * 4, [2, 4, 1, 4], [7, 8, 9, 10], [0] * 4])
    assert features.reasons == dict.fromkeys((0, 3), "no ready-made feature")
    assert not encoded and [path.name for path in (tmp_path / "features").iterdir()] == ["speech-ready-made"]


def test_encoders_for_drawings_say_so_where_they_encode():
    """Ready-made features are nobody's drawings."""
    own = replace(settings(), encoders=EncoderSettings(speech=SpeechSettings(source="bundled/hubert")))
    (caution,) = own.drawn
    assert "(speech) know drawings" in caution and not settings().drawn
    assert not replace(own, data=FolderData(speech_feature="wav")).drawn
    assert settings().back_to(own).startswith("encoders=bundled goes on")
    assert not own.back_to(own) and not own.back_to(settings())


def test_every_modality_has_the_encoder_of_its_settings(tmp_path, encoded, rankings_asked):
    own = settings(template="en-1")
    inputs = Inputs(DATASET, own, tmp_path)
    for modality in ("speech", "image", "text"):
        inputs.features(modality)
    names = ["u", "b", "a", "t"]
    assert encoded == [
        (names, ("speech", own.encoders.speech)),
        (names, ("image", own.encoders.image)),
        (names, ("text", own.encoders.text, RANKED.ranked, "en-1")),
    ]


def test_no_encoder_is_made_for_what_no_clip_has(tmp_path, encoded):
    """Clips without media, and one with."""
    inputs = Inputs(replace(DATASET, clips=BARE), settings(), tmp_path)
    assert inputs.encoded == ("text",)
    features = inputs.features("speech")
    assert not encoded and not features.present.any() and features.embeddings.shape == (4, 0)
    assert features.reasons == dict.fromkeys(range(4), "row without a clip")
    heard = replace(BARE[0], media=tmp_path / "u.wav")
    assert encoded_of([heard], settings()) == ("speech", "image", "text", "video")
    assert encoded_of([replace(heard, transcript="")], settings()) == ("speech", "image", "video")
    assert encoded_of([replace(heard, transcript="")], settings(speech_feature="wav")) == ("image", "video")


@pytest.mark.parametrize(
    ("transcript", "data", "notes"),
    [
        ("今天", {}, ["no labelled clip has speech, image, video: the run goes on without"]),
        ("today", {"modalities": "text"}, ["no transcript holds a Chinese character.*language=en"]),
        ("今天", {"modalities": "text"}, []),
    ],
)
def test_what_no_labelled_clip_has_is_known_before(transcript, data, notes):
    clips = (Clip("a", "train", label="x", transcript=transcript), Clip("b", "test", media=Path("b.mp4")))
    found = list(check_modalities(Dataset("toy", ("x", "y"), clips, {}), settings(**data)))
    assert len(found) == len(notes) and all(re.search(*pair) for pair in zip(notes, found, strict=True))
    with pytest.raises(DataError, match="toy: no labelled clip has any of speech, image"):
        list(check_modalities(Dataset("toy", ("x", "y"), clips, {}), settings(modalities="speech+image")))


def test_bare_transcripts_are_read_without_the_rankings(tmp_path, encoded, rankings_asked):
    inputs = Inputs(DATASET, settings(), tmp_path)
    for with_rankings in (True, False):
        inputs.features("text", with_rankings)
    assert [encoder[2] for _, encoder in encoded] == [RANKED.ranked, {}]


def test_rankings_are_read_once_however_often_they_are_looked_at(tmp_path, encoded, rankings_asked):
    inputs = Inputs(DATASET, settings(), tmp_path)
    inputs.features("speech")
    assert not rankings_asked
    inputs.features("text")
    inputs.features("text")
    assert inputs.rankings is RANKED
    assert rankings_asked == [([clip.transcript for clip in CLIPS], DATASET.labels, inputs.settings.ranking, False)]


@pytest.mark.parametrize(
    ("annotator", "first", "reads"), [("openai", False, True), ("openai", True, False), ("local", False, False)]
)
def test_of_several_hosts_the_first_alone_asks_a_server(tmp_path, rankings_asked, monkeypatch, annotator, first, reads):
    monkeypatch.setattr(module, "is_first_host", lambda: first)
    met = []
    monkeypatch.setattr(module, "meet", lambda *what: met.append(what))
    own = replace(settings(), ranking=RankingSettings(annotator=annotator))
    assert Inputs(DATASET, own, tmp_path).rankings is RANKED and [asked[-1] for asked in rankings_asked] == [reads]
    assert met == [("the cache's rankings", digest_of(RANKED.ranked))]  # other answers end them


@pytest.mark.parametrize("data", [{"text_feature": "bert"}, {"modalities": "speech+image"}])
def test_nothing_is_ranked_where_no_text_is_encoded(tmp_path, rankings_asked, data):
    own = settings(**data)
    assert not own.reads_rankings and settings().reads_rankings
    assert Inputs(DATASET, own, tmp_path).rankings == Rankings.none() and not rankings_asked


def test_nothing_is_ranked_without_any_transcript(tmp_path, rankings_asked):
    mute = replace(DATASET, clips=tuple(replace(clip, transcript="") for clip in CLIPS))
    assert Inputs(mute, settings(), tmp_path).rankings == Rankings.none() and not rankings_asked


@pytest.mark.parametrize(
    ("data", "searched"), [({}, True), ({"image_feature": "au"}, False), ({"modalities": "speech"}, False)]
)
def test_faces_are_searched_only_where_images_are_encoded(tmp_path, monkeypatch, data, searched):
    folders = []

    def find_faces(clips, folder, extraction):
        folders.append(folder)
        return [replace(clip, no_faces="searched") for clip in clips]

    monkeypatch.setattr(module, "find_faces", find_faces)
    inputs = Inputs(DATASET, settings(**data), tmp_path)
    assert [clip.no_faces == "searched" for clip in [*inputs.clips, *inputs.clips]] == [searched] * 8
    assert folders == [tmp_path / "faces"] * searched


@pytest.mark.parametrize("hosts", [1, 2])
def test_crops_that_are_damaged_when_they_are_read_are_cut_again_by_a_single_host(tmp_path, monkeypatch, capsys, hosts):
    searches, encoded = [], []

    def find_faces(clips, folder, extraction, thorough=False):
        searches.append(thorough)
        return [replace(clip, no_faces="thorough" if thorough else "") for clip in clips]

    def encode(clips, *rest):
        encoded.append({clip.no_faces for clip in clips})
        if len(encoded) == 1:
            raise Damaged("u.npy: not as it was written")
        return "features"

    monkeypatch.setattr(module, "find_faces", find_faces)
    monkeypatch.setattr(module, "encode", encode)
    monkeypatch.setattr(module, "image_encoder", lambda settings: None)
    monkeypatch.setattr(module.jax, "process_count", lambda: hosts)
    inputs = Inputs(DATASET, settings(copies=1), tmp_path)
    if hosts > 1:
        with pytest.raises(DataError, match=r"^u\.npy: not as it was written; remove it, and start"):
            inputs.features("image")
        return
    assert inputs.features("image") == "features" and searches == [False, True]
    assert encoded == [{""}, {"thorough"}] and capsys.readouterr().err.count("u.npy: ") == 1


def test_corrupted_copies_of_labelled_clips_come_behind_all_clips(tmp_path, encoded):
    inputs = Inputs(DATASET, settings(copies=2), tmp_path)
    copies, originals = inputs.copies
    assert [clip.name for clip in copies] == ["b", "b", "a", "a"] and originals.tolist() == [0, 0, 1, 1]
    assert all(clip.corruption for clip in copies) and not any(clip.corruption for clip in inputs.clips)
    inputs.features("speech")
    assert encoded[0][0] == ["u", "b", "a", "t", "b", "b", "a", "a"]


def test_copies_have_the_crops_of_their_originals(tmp_path, monkeypatch):
    crops = lambda clips, *rest: [replace(clip, faces=tmp_path / clip.name) for clip in clips]  # noqa: E731
    monkeypatch.setattr(module, "find_faces", crops)
    copies, _ = Inputs(DATASET, settings(copies=2), tmp_path).copies
    assert [copy.faces.name for copy in copies] == ["b", "b", "a", "a"]


def test_the_trained_encoder_is_asked_for_when_video_is_and_not_before(tmp_path, encoded, rankings_asked):
    asked = []
    inputs = Inputs(DATASET, settings(), tmp_path, lambda: asked.append("tuned") or "tuned encoder")
    for modality in ("speech", "text"):
        inputs.features(modality)
    assert not asked and "video" in inputs.settings.encoded
    inputs.features("video")
    assert asked == ["tuned"] and encoded[-1] == (["u", "b", "a", "t"], "tuned encoder")
    assert "video" not in settings(video_feature="clip").encoded + settings(modalities="text").encoded


def test_problems_are_by_clip_and_of_clips_alone(tmp_path):
    """Positions 4 and up are copies."""
    earlier = (Problem("t", "test", None, "two files"), Problem("a", "train", "text", "no transcript"))
    inputs = Inputs(replace(DATASET, problems=earlier), settings(copies=2), tmp_path)
    rows, present = np.zeros((8, 2), np.float32), np.ones(8, bool)
    features = {
        "speech": Features(rows, present, {3: "silent", 5: "dropped on purpose"}),
        "image": Features(rows, present, {0: "no face", 2: "no face"}),
    }
    assert inputs.problems(features) == [
        Problem("a", "train", "image", "no face"),
        Problem("a", "train", "text", "no transcript"),
        Problem("t", "test", None, "two files"),
        Problem("t", "test", "speech", "silent"),
        Problem("u", "unlabeled", "image", "no face"),
    ]


TABLE = "name,label,split,text,group\na,happy,train,好,g\nb,sad,train,坏,h\nc,happy,test,坏,h\nd,,unlabeled,好,h\n"


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    (root / "clips.csv").write_text(TABLE, "utf-8")
    return root


def test_a_runs_test_clips_alone_are_corrupted_alike_at_every_stage(folder, tmp_path):
    own = settings(root=str(folder), modalities="text")
    noisy = CorruptionsSettings(evaluation=CorruptionSettings(probability=1.0))
    own = replace(own, corruptions=noisy)
    dataset = run_dataset(own, tmp_path / "run")
    assert [bool(clip.corruption) for clip in dataset.clips] == [False, False, True, False]
    assert run_dataset(own, tmp_path / "run") == dataset != run_dataset(replace(own, seed=1), tmp_path / "run")


@pytest.mark.parametrize(
    "change", ["a,sad,train,好,g", "a,,unlabeled,好,g", "e,happy,train,好,g", "a,happy,train,好,h"]
)
def test_a_run_refuses_other_clips_labels_splits_and_groups_than_it_began_with(folder, tmp_path, change):
    own, workdir = settings(root=str(folder), modalities="text"), tmp_path / "run"
    run_dataset(own, workdir)
    (workdir / "config.json").touch()
    run_dataset(own, workdir)
    (folder / "clips.csv").write_text(TABLE.replace("a,happy,train,好,g", change), "utf-8")
    with pytest.raises(DataError, match="began with other clips"):
        run_dataset(own, workdir)
