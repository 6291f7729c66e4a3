"""Crops of a run: cut once, counted, kept as OpenFace keeps them."""

import numpy as np
import pytest

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.crops import faces_section, find_faces
from mer_jax.data.decoding import ExtractionSettings, clip_faces
from mer_jax.data.detect import FaceDetector
from mer_jax.runtime.files import dump_json, load_json
from tests.data.media_files import write_video
from tests.data.test_detect import crop_faces, draw_face


def test_faces_of_clips_are_cut_once_and_counted(tmp_path):
    wall = np.full((180, 320, 3), 120, np.uint8)
    frames = np.stack([draw_face(100, 90), draw_face(104, 90), wall])
    expected, _ = crop_faces(FaceDetector(), frames)
    write_video(tmp_path / "some.mp4", frames)
    write_video(tmp_path / "none.mp4", np.stack([wall, wall]))
    (tmp_path / "broken.mp4").write_bytes(b"no media")
    clips = [Clip(name, "train", media=tmp_path / f"{name}.mp4") for name in ("some", "none", "broken")]
    for _ in range(2):  # the second time nothing is left to do but for the broken one
        cut_clips = find_faces(clips, tmp_path / "faces", ExtractionSettings())
        assert [clip.faces is not None for clip in cut_clips] == [True, True, False]
        np.testing.assert_array_equal(np.load(cut_clips[0].faces), expected[..., ::-1])  # BGR
        np.testing.assert_array_equal(clip_faces(cut_clips[0]), expected)
        assert cut_clips[2].no_faces.startswith("cannot decode")
        with pytest.raises(Absent, match="cannot decode"):
            clip_faces(cut_clips[2])
        assert faces_section(cut_clips) == {"clips": 2, "clips_without": 1, "frames": 5, "frames_without": 3}
    assert faces_section(clips) is None
    write_video(tmp_path / "none.mp4", np.stack([draw_face(100, 90)] * 3))  # another clip under the same name
    (changed,) = find_faces([clips[1]], tmp_path / "faces", ExtractionSettings())
    assert len(np.load(changed.faces)) == 3
    counts = tmp_path / "faces" / "some" / "frames.json"
    about = load_json(counts)
    for stride, again in ((0, False), (4, True), (4, False)):  # crops of another stride are cut anew
        np.save(cut_clips[0].faces, np.zeros((1, 128, 128, 3), np.uint8))
        find_faces([clips[0]], tmp_path / "faces", ExtractionSettings(face_stride=stride))
        assert np.load(cut_clips[0].faces).any() == again
    assert load_json(counts) == about | {"face_stride": 4}
    del about["face_stride"]
    dump_json(counts, about)  # cut before there was a stride: right under any
    find_faces([clips[0]], tmp_path / "faces", ExtractionSettings())
    assert not np.load(cut_clips[0].faces).any()
    np.save(tmp_path / "own.npy", np.zeros((1, 128, 128, 3), np.uint8))
    brought = Clip("own", "train", media=tmp_path / "some.mp4", faces=tmp_path / "own.npy")
    both = find_faces(
        [brought, clips[0]], tmp_path / "faces", ExtractionSettings()
    )  # one clip's crops are its own affair
    assert both == [brought, cut_clips[0]]
