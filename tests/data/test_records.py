"""A clip's record: which frames, whose faces, and a reason for each modality that it lacks."""

import hashlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.data.faces import MEAN_FACE, Faces
from mer_jax.data.records import PrepareSettings, RecordSettings, lost, prepare_clip
from tests.data.media_files import numbered_frames, tone, write_video

SETTINGS = RecordSettings(
    PrepareSettings(frames=4, frame_side=0, jpeg_quality=95),
    ExtractionSettings(most_face_frames=6, workers=1, time_limit=30.0),
    face_size=32,
)


def jpeg(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def pixels(files):
    return np.array([np.asarray(Image.open(io.BytesIO(file))) for file in files])


def faces_at(size):
    """A face whose crop is the upper left corner of `size` px of a fitted frame."""
    landmarks = (MEAN_FACE * size / 160 + size / 2)[None].astype(np.float32)
    return Faces(np.array([[0, 0, size, size]], np.float32), np.ones(1, np.float32), landmarks)


NO_FACES = Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


def prepare(clip, answer=lambda number: NO_FACES, settings=SETTINGS):
    """The record, and the number of frames that were searched. answer: number of a frame -> its faces."""
    job, number = prepare_clip(clip, settings), 0
    try:
        fitted = next(job)
        while True:
            faces = [answer(number + i) for i in range(len(fitted))]
            number += len(fitted)
            fitted = job.send(faces)
    except StopIteration as stop:
        return stop.value, number


@pytest.fixture
def clip(tmp_path):
    write_video(tmp_path / "a.mp4", numbered_frames(20, 240, 320), tone(0.5))
    return Clip("a", "train", media=tmp_path / "a.mp4")


def test_sound_frames_and_faces(clip):
    """Sampled are frames 2, 7, 12, 17; searched are these and 0, 4, 8, 12, 16, of 320 x 240 px as they are."""
    record, searched = prepare(clip, lambda number: faces_at(128))
    np.testing.assert_array_equal(record["waveform"], tone(0.5))
    assert searched == 8
    np.testing.assert_allclose(pixels(record["frames"])[:, 0, 0, 0], [30, 80, 130, 180], rtol=0, atol=1)
    assert pixels(record["frames"]).shape == (4, 240, 320, 3)
    levels = 10 + 10 * np.array([0, 2, 4, 7, 8, 12, 16, 17])
    crops = np.broadcast_to(levels[:, None, None, None], (8, 32, 32, 3))
    np.testing.assert_allclose(pixels(record["faces"]).astype(int), crops, rtol=0, atol=1)
    assert json.loads(record["absent"]) == {} and record["frames_without_face"] == 0


def test_sampled_frames_may_lie_in_any_block(clip):
    record, searched = prepare(
        clip, settings=replace(SETTINGS, extraction=replace(SETTINGS.extraction, most_face_frames=20))
    )
    assert searched == 20  # in blocks of 16 and 4
    np.testing.assert_allclose(pixels(record["frames"])[:, 0, 0, 0], [30, 80, 130, 180], rtol=0, atol=1)


def test_frames_without_the_face_are_counted(clip):
    record, _ = prepare(clip, lambda number: faces_at(128) if number % 2 else NO_FACES)
    assert len(record["faces"]) == 4 and record["frames_without_face"] == 4
    record, _ = prepare(clip)
    assert json.loads(record["absent"]) == {"image": "no face"} and record["frames_without_face"] == 8
    assert len(record["frames"]) == 4


def test_crops_that_the_data_set_brings_are_taken_as_they_are(clip, tmp_path):
    crops = np.full((2, 16, 16, 3), (90, 40, 200), np.uint8)  # BGR
    np.save(tmp_path / "a.npy", crops)
    record, searched = prepare(replace(clip, faces=tmp_path / "a.npy"))
    assert searched == 0 and record["frames_without_face"] == 0
    np.testing.assert_allclose(pixels(record["faces"]).astype(int), crops[..., ::-1], rtol=0, atol=2)
    np.testing.assert_allclose(pixels(record["frames"])[:, 0, 0, 0], [30, 80, 130, 180], rtol=0, atol=1)


def test_frames_are_shrunk_to_their_shorter_side(clip):
    record, _ = prepare(clip, settings=replace(SETTINGS, prepare=replace(SETTINGS.prepare, frame_side=60)))
    assert pixels(record["frames"]).shape == (4, 60, 80, 3)


def test_reasons_for_each_modality(tmp_path):
    write_video(tmp_path / "mute.mp4", numbered_frames(3))
    write_video(tmp_path / "sound.m4a", None, tone(0.5))

    def absent(media):
        return json.loads(prepare(Clip("a", "train", media=media))[0]["absent"])

    assert absent(tmp_path / "mute.mp4") == {"speech": "no sound track", "image": "no face"}
    assert absent(tmp_path / "sound.m4a") == {"video": "no video stream", "image": "no video stream"}
    assert absent(None) == dict.fromkeys(("speech", "video", "image"), "row without a clip")


def test_provenance_names_the_file(clip):
    content = clip.media.read_bytes()
    record, _ = prepare(clip)
    expected = {"file": "a.mp4", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert json.loads(record["provenance"]) == expected


def test_the_record_of_a_clip_that_was_lost():
    record = lost(Absent("crashed (SIGSEGV)"))
    assert json.loads(record["absent"]) == dict.fromkeys(("speech", "image", "video"), "crashed (SIGSEGV)")
    assert not len(record["waveform"]) and record["frames"] == record["faces"] == [] and record["provenance"] == "{}"
