"""One pass over a file gives what separate readings give, and of a recording what lies in each window."""

import numpy as np
import pytest

from mer_jax.data.clips import Absent
from mer_jax.data.faces import FACE_SIZE, Faces, crop_main_face
from mer_jax.data.frames import frame_blocks, read_frames
from mer_jax.data.media import read_sound, segment_centres
from mer_jax.data.recording import Recording, Wanted, Window, read_window, read_windows
from mer_jax.data.sound_windows import sound_windows
from mer_jax.data.streams import Unreadable
from tests.data.media_files import write_video

RATE = 16_000
ALL = Wanted(RATE, 3, 100)


def faces_in(fitted):
    """One face per frame, which wanders with the brightness of its frames."""
    found = []
    for frame in fitted:
        x = float(frame[:40].mean()) / 8
        box = np.array([[40 + x, 30, 120 + x, 120]], np.float32)
        points = np.array([[60 + x, 60], [100 + x, 60], [80 + x, 80], [65 + x, 100], [95 + x, 100]], np.float32)
        found.append(Faces(box, np.ones(1, np.float32), points[None]))
    return found


def run(job):
    """A job's yields that are no questions, and what it returns."""
    parts, reply = [], None
    try:
        while True:
            question = job.send(reply)
            reply = faces_in(question) if isinstance(question, np.ndarray) else parts.append(question)
    except StopIteration as stop:
        return parts, stop.value


def numbered(count, height=96, width=128):
    """Frames whose brightness tells their number."""
    return (np.arange(count) % 200 + 1).astype(np.uint8)[:, None, None, None] * np.ones((1, height, width, 3), np.uint8)


def sound(seconds):
    """Each sample tells its tenth of a second, as a tone's strength."""
    t = np.arange(int(seconds * RATE))
    return (np.sin(t * 0.3) * (1000 + 100 * (t // (RATE // 10)))).astype(np.int16)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """10 s of 8 frames each, with sound."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_video(path, numbered(80), sound(10))
    return path


def test_a_whole_file_gives_what_separate_readings_give(film):
    parts, contents = run(read_window(Recording(film), ALL))
    assert parts == []
    np.testing.assert_array_equal(contents["speech"], read_sound(film, RATE))
    np.testing.assert_array_equal(contents["video"], read_frames(film, lambda n: segment_centres(3, n)))
    job, reply = crop_main_face(frame_blocks(film), FACE_SIZE), None
    try:
        while True:
            reply = faces_in(job.send(reply))
    except StopIteration as stop:
        np.testing.assert_array_equal(contents["image"], stop.value[0])


def test_windows_hold_the_frames_and_the_sound_of_their_time(film):
    windows = (Window(0.0, 2.0), Window(1.0, 3.0), Window(6.0, 8.0), Window(9.5, 11.5), Window(20.0, 22.0))
    parts, _ = run(read_windows(Recording(film, windows=windows), ALL))
    everything, whole = read_frames(film), read_sound(film, RATE)
    for window, part in zip(windows, parts, strict=True):
        numbers = np.flatnonzero((np.arange(80) / 8 >= window.start) & (np.arange(80) / 8 < window.end))
        if len(numbers):
            np.testing.assert_array_equal(part["video"], everything[numbers[segment_centres(3, len(numbers))]])
            assert len(part["image"]) == len(numbers)
            expected = whole[int(window.start * RATE) : int(window.end * RATE)]
            assert abs(len(part["speech"]) - len(expected)) <= 1
            np.testing.assert_allclose(part["speech"][: len(expected)], expected[: len(part["speech"])], atol=2)
        else:
            assert str(part["video"]) == "no frame can be decoded" and str(part["image"]) == "no face"
            assert not part["speech"].size


def test_a_part_far_into_a_recording_is_the_same_as_when_all_before_it_is_decoded(tmp_path):
    """From a key frame on: every twelfth frame is one, and most lean on frames after them."""
    path = tmp_path / "long.mkv"
    write_video(path, numbered(250), sound(31), lossy=True)
    window = Window(20.3, 22.6)
    (alone,), _ = run(read_windows(Recording(path, windows=(window,)), ALL))
    parts, _ = run(read_windows(Recording(path, windows=(Window(0.0, 1.0), window)), ALL))
    for modality in ("video", "image"):
        np.testing.assert_array_equal(alone[modality], parts[1][modality])
    np.testing.assert_allclose(alone["speech"], parts[1]["speech"], atol=40)
    assert np.corrcoef(alone["speech"], parts[1]["speech"])[0, 1] > 0.999


def test_faces_are_searched_in_at_most_so_many_frames_of_a_window(film):
    windows = (Window(0.0, 4.0), Window(2.0, 6.0))
    parts, _ = run(read_windows(Recording(film, windows=windows), ALL._replace(most_faces=8, num_frames=None)))
    assert [len(part["image"]) for part in parts] == [8, 8]
    assert [set(part) for part in parts] == [{"speech", "image"}] * 2


def test_what_a_file_lacks_is_said_by_modality(tmp_path):
    write_video(tmp_path / "mute.mp4", numbered(8))
    _, contents = run(read_window(Recording(tmp_path / "mute.mp4"), ALL))
    assert str(contents["speech"]) == "no sound track" and len(contents["video"]) == 3
    write_video(tmp_path / "sound.mp4", None, sound(1))
    _, contents = run(read_window(Recording(tmp_path / "sound.mp4"), ALL))
    assert {modality for modality, part in contents.items() if isinstance(part, Absent)} == {"image", "video"}
    assert str(contents["image"]) == "no video stream"


def test_what_is_no_media_is_unreadable(tmp_path):
    (tmp_path / "a.mp4").write_text("no media")
    _, contents = run(read_window(Recording(tmp_path / "a.mp4"), ALL))
    assert isinstance(contents, Unreadable) and str(contents).startswith("cannot decode")
    with pytest.raises(Unreadable, match="cannot decode"):
        run(read_windows(Recording(tmp_path / "a.mp4"), ALL))


def test_gaps_in_the_sound_are_silent(tmp_path):
    """Time stamps leave out the fourth second."""
    import av

    path = tmp_path / "gap.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for second in (0, 1, 2, 4, 5):
            block = av.AudioFrame.from_ndarray(np.full((1, RATE), 1000 * (second + 1), np.int16), "s16", "mono")
            block.sample_rate, block.pts = RATE, second * RATE
            container.mux(stream.encode(block))
        container.mux(stream.encode())
    (window,) = sound_windows(path, RATE, "", [(2.5, 5.5)])
    middles = window[RATE // 4 :: RATE // 2]
    assert middles.tolist() == [3000, 0, 0, 5000, 5000, 6000]
