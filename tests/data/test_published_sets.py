"""Folder data sets in the shape of published ones, read from `clips.csv` alone."""

import numpy as np
import pytest

from mer_jax.data.check import probe_media, report
from mer_jax.data.decoding import clip_frames, clip_sound
from mer_jax.data.folder import COLUMNS, read_folder
from tests.data.media_files import numbered_frames, tone, write_sound, write_video

MELD = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
FILES = {"train": "train_splits", "unlabeled": "dev_splits_complete", "test": "output_repeated_splits_test"}


@pytest.fixture
def meld(tmp_path):
    """Utterances are numbered anew in each split's folder; every third one has lost its picture."""
    rows = ["Sr No.,Utterance,Speaker,Emotion,split,name,path"]
    for split, folder in FILES.items():
        (tmp_path / folder).mkdir()
        for number, emotion in enumerate(MELD):
            file = f"{folder}/dia{number // 3}_utt{number % 3}.mp4"
            frames = None if number % 3 == 2 else numbered_frames(2 + number)
            write_video(tmp_path / file, frames, tone(0.3))
            text = f'"Oh, it\'s ""{emotion}"", isn\u0092t it?"'
            rows.append(f"{number},{text},Speaker {number % 2},{emotion},{split},{split}_{number},{file}")
    (tmp_path / "clips.csv").write_text("\r\n".join(rows), "utf-8")
    return tmp_path


def test_meld(meld):
    columns = dict(zip(COLUMNS, ("Emotion", "split", "Speaker", "Utterance", "path", "modalities"), strict=True))
    dataset = read_folder(meld, columns, {})
    assert dataset.labels == MELD
    assert dataset.counts() == dict.fromkeys(FILES, 7)
    assert not dataset.problems
    clips = {clip.name: clip for clip in dataset.clips}
    assert len(dataset.truth) == 14 and all(clip.label is None for name, clip in clips.items() if name in dataset.truth)
    assert clips["train_3"].transcript.startswith('Oh, it\'s "joy", isn') and clips["train_3"].group == "Speaker 1"
    for split in FILES:  # the same file name in each
        assert clips[f"{split}_4"].media.name == "dia1_utt1.mp4"
        np.testing.assert_array_equal(clip_frames(clips[f"{split}_4"], np.arange), numbered_frames(6))
        np.testing.assert_array_equal(clip_sound(clips[f"{split}_2"], 16_000), tone(0.3))
    problems = list(probe_media(dataset.clips, 1, 30.0, lambda count: None))
    assert {(problem.modality, problem.reason) for problem in problems} == {("video", "no video stream")}
    assert len(problems) == 6
    text = "\n".join(report(dataset, problems))
    assert "6 x video: no video stream" in text and "groups are in the train and in the test split" in text


def test_a_row_whose_file_is_gone(meld):
    (meld / "train_splits" / "dia0_utt0.mp4").unlink()
    columns = dict(zip(COLUMNS, ("Emotion", "split", "Speaker", "Utterance", "path", "modalities"), strict=True))
    dataset = read_folder(meld, columns, {})
    assert [(problem.name, problem.reason) for problem in dataset.problems] == [
        ("train_0", f"row without a clip (no file {meld / 'train_splits/dia0_utt0.mp4'})")
    ]


def test_ravdess(tmp_path):
    (tmp_path / "media").mkdir()
    rows = ["name,emotion,actor,intensity"]
    for actor in range(1, 4):
        for number, emotion in enumerate(("calm", "fearful", "")):
            name = f"03-01-0{number + 1}-01-01-01-{actor:02d}"
            write_sound(tmp_path / "media" / f"{name}.wav", [tone(0.2)[None]], "pcm_s16le", "mono")
            rows.append(f"{name},{emotion},actor{actor:02d},1")
    (tmp_path / "clips.csv").write_text("\n".join(rows), "utf-8")
    dataset = read_folder(
        tmp_path, {**dict(zip(COLUMNS, COLUMNS, strict=True)), "label": "emotion", "group": "actor"}, {}
    )
    assert dataset.labels == ("calm", "fearful")
    assert dataset.counts() == {"train": 6, "unlabeled": 3, "test": 0}
    assert {clip.group for clip in dataset.clips} == {"actor01", "actor02", "actor03"}
    assert not any(clip.transcript for clip in dataset.clips) and not dataset.problems
    problems = list(probe_media(dataset.clips, 1, 30.0, lambda count: None))
    assert [problem.reason for problem in problems] == ["no video stream"] * 9
