"""Crops of a run: cut once, counted, kept as OpenFace keeps them."""

import numpy as np
import pytest

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.crops import faces_section, find_faces
from mer_jax.data.decoding import ExtractionSettings, clip_faces, identity
from mer_jax.data.detect import FaceDetector
from mer_jax.runtime.files import dump_json
from mer_jax.runtime.kept import Damaged, keep
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
    np.save(tmp_path / "own.npy", np.zeros((1, 128, 128, 3), np.uint8))
    brought = Clip("own", "train", media=tmp_path / "some.mp4", faces=tmp_path / "own.npy")
    both = find_faces([brought, clips[0]], tmp_path / "faces", ExtractionSettings())  # its crops are its own affair
    assert both == [brought, cut_clips[0]]


@pytest.fixture
def one_face(tmp_path):
    """Finds a clip's face, and says whether that meant to cut its crops."""
    write_video(tmp_path / "a.mp4", np.stack([draw_face(100, 90), draw_face(104, 90)]))
    path = tmp_path / "faces" / "a" / "a.npy"

    def cut(stride=0, thorough=False):
        before = path.stat().st_ino if path.exists() else None  # a file that is written whole is another one
        clips, settings = [Clip("a", "train", media=tmp_path / "a.mp4")], ExtractionSettings(face_stride=stride)
        find_faces(clips, tmp_path / "faces", settings, thorough)
        return path.stat().st_ino != before

    assert cut() and not cut()
    return path, cut


def test_crops_of_another_stride_are_cut_anew(one_face):
    path, cut = one_face
    assert cut(stride=4) and not cut(stride=4)
    dump_json(path.with_name("frames.json"), {"with": 2, "without": 0, "of": identity(path.parents[2] / "a.mp4")})
    assert not cut() and not cut(stride=4)  # cut before there was a stride: right under any


@pytest.mark.parametrize("name", ["a.npy", "frames.json"])
@pytest.mark.parametrize("way", ["cut", "emptied", "flipped", "removed"])
def test_damaged_crops_are_named_and_cut_again(one_face, capsys, name, way):
    path, cut = one_face
    whole = path.read_bytes()
    damaged = path.with_name(name)
    content = damaged.read_bytes()
    flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    damaged.write_bytes({"cut": content[:-9], "flipped": flipped}.get(way, b""))
    if way == "removed":
        damaged.unlink()
    capsys.readouterr()
    if (name, way) == ("a.npy", "flipped"):  # nothing reads it until it has to be encoded
        assert not cut()
        with pytest.raises(Damaged, match=rf"^{path}: not as it was written$"):
            clip_faces(Clip("a", "train", media=path, faces=path, cut=True))
    assert cut(thorough=True) and path.read_bytes() == whole and not cut()
    assert (f"{damaged}: " in capsys.readouterr().err) == ((way, name) != ("removed", "frames.json"))


@pytest.mark.parametrize("content", [{}, {"with": None, "without": 0}, {"with": 2, "without": 0, "crops": []}])
def test_counts_of_another_kind_are_made_again(one_face, capsys, content):
    path, cut = one_face
    keep(path.with_name("frames.json"), content)
    assert cut() and "frames.json: holds other things" in capsys.readouterr().err
