"""Prepared data sets: what comes out of TFDS is what went in, and a build goes on where it was killed."""

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace

import numpy as np
import pytest

from mer_jax.data.builder import Mer, clip_fingerprint
from mer_jax.data.clips import NOT_VALID, Absent, Clip
from mer_jax.data.dataset import valid_dataset
from mer_jax.data.decoding import ExtractionSettings, clip_faces, clip_frames, clip_sound
from mer_jax.data.folder import COLUMNS, read_folder
from mer_jax.data.prepared import INDEX, read_prepared
from mer_jax.data.records import PrepareSettings, RecordSettings
from mer_jax.features.readers import SpeechReader, VideoReader, read_all
from mer_jax.runtime.errors import DataError
from tests.data.media_files import numbered_frames, tone, write_video

OWN_COLUMNS = dict(zip(COLUMNS, COLUMNS, strict=True))
SETTINGS = RecordSettings(
    PrepareSettings(shard_clips=2, frames=6, frame_side=0, jpeg_quality=95),
    ExtractionSettings(most_face_frames=100, workers=1, time_limit=30.0),
    face_size=64,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    (root / "media").mkdir()
    write_video(root / "media" / "a.mp4", numbered_frames(12), tone(0.5))
    write_video(root / "media" / "b.mp4", numbered_frames(3))
    write_video(root / "media" / "u.m4a", None, tone(0.5))
    (root / "media" / "broken.mp4").write_bytes(b"no media")
    crops = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    (root / "openface_face" / "b").mkdir(parents=True)
    np.save(root / "openface_face" / "b" / "b.npy", crops)
    rows = ["name,label,split,group,text", "a,x,,g,你好", "b,y,,,", "u,,,,hi", "broken,x,test,,", "gone,y,,,"]
    (root / "clips.csv").write_text("\n".join(rows), "utf-8")
    return root


def build(folder, output, **changes):
    done = []
    settings = {"name": "tiny", "settings": SETTINGS, "advance": done.append, **changes}
    builder = Mer(dataset=read_folder(folder, OWN_COLUMNS, {}), data_dir=output, **settings)
    return builder.build(folder), sum(done)


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory):
    path, done = build(folder, tmp_path_factory.mktemp("tfds"))
    assert done == 5
    return path


def test_the_same_clips_come_back(folder, built):
    before, after = read_folder(folder, OWN_COLUMNS, {}), read_prepared(built)
    assert "tensorflow" not in sys.modules
    assert (after.labels, after.truth, after.counts()) == (before.labels, before.truth, before.counts())
    assert set(after.problems) == set(before.problems)
    then = {clip.name: clip for clip in before.clips}
    assert sorted(clip.name for clip in after.clips) == sorted(then)
    for clip in after.clips:
        old = then[clip.name]
        assert (clip.split, clip.label, clip.group, clip.transcript) == (
            old.split,
            old.label,
            old.group,
            old.transcript,
        )


def test_sound_frames_and_faces_come_back(folder, built):
    before = {clip.name: clip for clip in read_folder(folder, OWN_COLUMNS, {}).clips}
    after = {clip.name: clip for clip in read_prepared(built).clips}
    np.testing.assert_array_equal(clip_sound(after["a"], 16_000), clip_sound(before["a"], 16_000))
    reader = VideoReader(32, 2)  # 6 stored frames are an odd multiple of 2
    frames, originals = reader.read(after["a"]), reader.read(before["a"])
    np.testing.assert_allclose(frames.astype(int), originals, rtol=0, atol=1)
    np.testing.assert_allclose(clip_frames(after["b"], np.arange).astype(int), numbered_frames(3), rtol=0, atol=1)
    np.testing.assert_allclose(clip_faces(after["b"]).astype(int), clip_faces(before["b"]), rtol=0, atol=3)


def test_absences_are_those_of_the_media(folder, built):
    for reader in (SpeechReader(16_000, 10.0), VideoReader(32, 2)):
        before, after = (
            {
                clip.name: str(content)
                for clip, content in zip(
                    clips, read_all([(reader, clip) for clip in clips], ExtractionSettings()), strict=True
                )
                if isinstance(content, Absent)
            }
            for clips in (read_folder(folder, OWN_COLUMNS, {}).clips, read_prepared(built).clips)
        )
        assert before == after and {"broken", "gone"} < before.keys()


def shards(path):
    return {file.name: file.read_bytes() for file in path.glob("*.array_record*")}


def test_an_interrupted_build_goes_on_and_gives_the_same_bytes(folder, built, tmp_path):
    def interrupt(count):
        seen.append(count)
        if sum(seen) == 3:
            raise KeyboardInterrupt

    seen = []
    with pytest.raises(KeyboardInterrupt):
        build(folder, tmp_path, advance=interrupt)
    finished = list((tmp_path / ".parts" / "tiny").glob("*.array_record"))
    assert len(finished) == 1
    stamp = finished[0].stat().st_ino
    begun = tmp_path / "mer" / "tiny" / "incomplete.ABC123_1.0.0"  # left by a kill
    begun.mkdir(parents=True)
    path, _ = build(folder, tmp_path)
    assert shards(path) == shards(built)
    assert stamp in [file.stat().st_ino for file in path.iterdir()]
    assert list(tmp_path.iterdir()) == [tmp_path / "mer"] and not begun.exists()


def test_temporary_folders_of_libraries_are_in_one_that_is_removed(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    build(folder, tmp_path / "tfds")
    assert not any((tmp_path / "temporary").iterdir())
    assert tempfile.gettempdir() == str(tmp_path / "temporary")


def test_a_record_has_the_same_bytes_in_every_process():
    program = "import numpy as np; from mer_jax.data.builder import serialized; from mer_jax.data.clips import Absent\n"
    program += "from mer_jax.data.records import lost\n"
    program += "print(serialized({'id': 'a', 'transcript': 'b', 'label': 'c'} | lost(Absent('gone'))).hex())"
    records = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True) for _ in range(3)]
    assert len({record.stdout for record in records}) == 1 and bytes.fromhex(records[0].stdout)


def test_what_has_changed_is_made_anew(folder, tmp_path, capsys):
    source = shutil.copytree(folder, tmp_path / "data")
    path, _ = build(source, tmp_path / "tfds")
    assert build(source, tmp_path / "tfds") == (path, 0)
    printed = capsys.readouterr()
    assert not printed.out and "anew" not in printed.err  # nor what TFDS says of downloads
    table = source / "clips.csv"
    table.write_text(table.read_text("utf-8").replace("你好", "再见"), "utf-8")
    assert build(source, tmp_path / "tfds") == (path, 5) and "made anew" in capsys.readouterr().err
    assert "再见" in {clip.transcript for clip in read_prepared(path).clips}


def test_tfds_reads_it_without_us(built):
    import tensorflow_datasets as tfds

    source = tfds.data_source("mer/tiny", split="train", data_dir=str(built.parents[2]))
    records = [source[i] for i in range(len(source))]
    assert [record["id"] for record in records] == [b"a", b"b", b"gone"]
    assert records[0]["transcript"].decode() == "你好" and records[0]["label"] == b"x"
    assert json.loads(records[0]["provenance"])["file"] == "a.mp4"
    assert json.loads(records[2]["absent"])["speech"] == "row without a clip"
    assert json.loads(records[2]["absent"])["image"] == "row without a clip"


def test_beam_writes_the_same_bytes(folder, built, tmp_path):
    pytest.importorskip("apache_beam", reason="an optional extra")
    builder = Mer("tiny", read_folder(folder, OWN_COLUMNS, {}), SETTINGS, tmp_path)
    assert shards(builder.build(folder, "DirectRunner")) == shards(built)


def test_all_that_a_record_depends_on_changes_its_fingerprint(folder):
    media = folder / "media" / "a.mp4"
    clip = Clip("a", "train", media=media, transcript="hi", label="x")
    clips = [
        clip,
        replace(clip, name="b"),
        replace(clip, media=folder / "media" / "b.mp4"),
        replace(clip, faces=folder / "openface_face" / "b" / "b.npy"),
        replace(clip, transcript="ho"),
        replace(clip, label="y"),
        replace(clip, audio_track="fra"),
    ]
    prepare, extraction = SETTINGS.prepare, SETTINGS.extraction
    others = [
        replace(SETTINGS, prepare=replace(prepare, **{name: 7})) for name in ("frames", "frame_side", "jpeg_quality")
    ]
    others += [replace(SETTINGS, face_size=32), replace(SETTINGS, extraction=replace(extraction, most_face_frames=9))]
    others += [replace(SETTINGS, extraction=replace(extraction, face_stride=1))]
    fingerprints = [clip_fingerprint(other, SETTINGS) for other in clips]
    fingerprints += [clip_fingerprint(clip, other) for other in others]
    assert len(set(fingerprints)) == len(clips) + len(others)
    for change in ({"workers": 2}, {"time_limit": 9.0}):
        same = replace(SETTINGS, extraction=replace(extraction, **change))
        assert clip_fingerprint(clip, same) == fingerprints[0]


@pytest.mark.parametrize("way", ["cut", "emptied", "removed", "flipped"])
@pytest.mark.parametrize("name", ["clips.csv", "dataset.json", "files.json", "*.array_record*"])
def test_a_damaged_set_is_refused_and_made_anew(folder, built, tmp_path, capsys, name, way):
    shutil.copytree(built.parents[2], tmp_path / "tfds")
    root = tmp_path / "tfds" / built.relative_to(built.parents[2])
    path = next(root.glob(name))
    content = path.read_bytes()
    flipped = content[:-20] + bytes([content[-20] ^ 1]) + content[-19:]
    path.write_bytes({"cut": content[:-9], "flipped": flipped}.get(way, b""))
    if way == "removed":
        path.unlink()
    unnoticed = (way, name) in {("removed", "files.json"), ("flipped", "*.array_record*")}  # until it is read
    if not unnoticed:
        with pytest.raises(DataError, match=rf"^{root}.*"):
            read_prepared(root)
    if (way, name) != ("removed", "files.json"):
        assert build(folder, tmp_path / "tfds") == (root, 5) and "made anew" in capsys.readouterr().err
        assert shards(root) == shards(built)


def test_nothing_is_kept_of_modalities_that_do_not_count(folder, built, tmp_path):
    dataset = valid_dataset(read_folder(folder, OWN_COLUMNS, {}), ("image", "text"))
    limited = read_prepared(Mer("tiny", dataset, SETTINGS, tmp_path).build(folder))
    u = next(clip for clip in limited.clips if clip.name == "u")
    assert u.modalities == ("image", "text") == limited.candidate_modalities and u.transcript == "hi"
    with pytest.raises(Absent, match=NOT_VALID):
        u.prepared.sound(16_000)
    assert all(clip.modalities is None for clip in limited.clips if clip.split == "train")
    assert "modalities" in (limited.clips[0].prepared.root / INDEX).read_text("utf-8").split("\n")[0]
    assert "modalities" not in (built / INDEX).read_text("utf-8").split("\n")[0]
