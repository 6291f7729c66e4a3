"""What each reader makes of a clip's files."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.corruptions import DROPPED, Corruption
from mer_jax.data.decoding import ExtractionSettings, identity
from mer_jax.features.readers import FaceReader, SpeechReader, TextReader, VideoReader, frame_chunk, next_side, read_all
from mer_jax.models.preprocess import clip_pixels, resize_and_crop_weights
from mer_jax.tuning.batches import stack_chunks
from tests.data.media_files import tone
from tests.data.test_sound import write_tracks

RATE = 16_000


def test_chunks_of_sound_carry_the_whole_clips_statistics():
    """+-100 about 200, then +-1000 about 200: mean 200, variance (100² + 1000²) / 2."""
    half = 4 * np.tile([1, -1], RATE // 4)
    waveform = (np.concatenate([25 * half, 250 * half]) + 200).astype(np.int16)
    chunks = SpeechReader(RATE, 0.5).chunks(waveform)
    assert [chunk.data.tolist() for chunk in chunks] == [part.tolist() for part in np.split(waveform, 2)]
    for chunk in chunks:
        mean, scale = chunk.side
        np.testing.assert_allclose(mean, 200 / 32768, rtol=1e-6)
        np.testing.assert_allclose(scale, 32768 / np.sqrt((100**2 + 1000**2) / 2), rtol=1e-3)


def test_the_last_chunk_of_sound_needs_one_frame():
    noise = np.random.default_rng(0).integers(-9999, 9999, RATE, np.int16)
    assert [len(chunk.data) for chunk in SpeechReader(RATE, 0.4).chunks(noise[:13_199])] == [6400, 6400]
    assert [len(chunk.data) for chunk in SpeechReader(RATE, 0.4).chunks(noise[:13_200])] == [6400, 6400, 400]


def test_sound_that_is_none():
    with pytest.raises(Absent, match="silent"):
        SpeechReader(RATE, 1.0).chunks(np.ones(RATE, np.int16))


@pytest.fixture
def reader():
    """Its tokens are the text's characters."""
    return TextReader(lambda texts: [list(map(ord, text)) for text in texts], {"bye": ("sad", "happy")}, "en-1", 60)


def said(tokens):
    return "".join(map(chr, tokens))


def test_a_text_is_ranking_and_transcript_as_far_as_there_is_room(reader):
    joined = "Emotions from most to least likely: sad, happy. Text: bye"
    (chunk,) = reader.chunks(reader.read(Clip("a", "train", transcript="bye")))
    assert said(chunk.data) == joined and chunk.data.dtype == np.int32
    assert said(replace(reader, max_tokens=9).read(Clip("a", "train", transcript="bye"))) == joined[:9]
    assert said(reader.read(Clip("a", "train", transcript="not ranked"))) == "not ranked"


def test_what_the_checkpoint_sees_first_comes_before_the_text_and_takes_its_room(reader):
    behind = replace(reader, prefix=(7,), max_tokens=9)
    assert behind.read(Clip("a", "train", transcript="not ranked")).tolist() == [7, *map(ord, "not rank")]


def test_a_text_is_another_with_another_ranking_or_template(reader):
    clip = Clip("a", "train", transcript="bye")
    readers = [reader, replace(reader, rankings={"bye": ("happy", "sad")}), replace(reader, template="zh-1")]
    assert len({each.identity(clip) for each in [*readers, replace(reader, rankings={})]}) == 4


def test_texts_that_are_none(reader):
    with pytest.raises(Absent, match="no transcript"):
        reader.read(Clip("a", "train"))
    dropped = Corruption(0, None, 0.0, 1.0, ("text",))
    with pytest.raises(Absent, match=DROPPED):
        reader.read(Clip("a", "train", transcript="bye", corruption=dropped))


def test_faces_come_in_chunks_of_bounded_length():
    crops = np.random.default_rng(0).integers(0, 256, (10, 128, 128, 3), np.uint8)
    chunks = FaceReader(48, 4).chunks(crops)
    assert [len(chunk.data) for chunk in chunks] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([chunk.data for chunk in chunks]), crops)


def test_of_many_faces_evenly_spaced_ones_are_read():
    crops = np.zeros((10, 128, 128, 3), np.uint8) + np.arange(10, dtype=np.uint8)[:, None, None, None]
    for most, expected in ((0, range(10)), (10, range(10)), (2, [2, 7])):
        chunks = FaceReader(48, 4, most_frames=most).chunks(crops)
        assert [int(frame.max()) for chunk in chunks for frame in chunk.data] == list(expected), most


def test_the_middle_of_a_frame_is_kept_and_its_padding_has_no_weight():
    """100 x 140 px at their own size: all rows, and the columns 20 to 119."""
    frames = np.random.default_rng(0).integers(1, 256, (2, 100, 140, 3), np.uint8)
    chunk = frame_chunk(frames, 100)
    assert chunk.data.shape == (2, 128, 160, 3)
    np.testing.assert_array_equal(chunk.data[:, :100, :140], frames)
    assert not chunk.data[:, 100:].any() and not chunk.data[:, :, 140:].any()
    rows, columns, transposed = chunk.side
    assert not transposed
    np.testing.assert_allclose(rows, np.eye(100, 128), atol=1e-6)
    np.testing.assert_allclose(columns, np.eye(100, 160, 20), atol=1e-6)


def test_a_frame_whose_height_pillow_resizes_first_lies_on_its_side_and_its_pixels_are_upright():
    frames = np.random.default_rng(0).integers(100, 150, (1, 300, 90, 3), np.uint8)
    tall, square = frame_chunk(frames, 64), frame_chunk(frames[:, 100:190], 64)
    assert tall.data.shape == (1, 128, 384, 3) and tall.side[2] and not square.side[2]
    data, _, *side = stack_chunks([tall, square], 1, 64)  # of one batch
    pixels = clip_pixels(data, *side)
    each = frames[None], frames[None, :, 100:190]
    weights = [[axis[None] for axis in resize_and_crop_weights(height, 90, 64)] for height in (300, 90)]
    upright, beside = (clip_pixels(data, *axes) for data, axes in zip(each, weights, strict=True))
    np.testing.assert_allclose(pixels[0], upright[0], atol=0.03)  # by one, for the order
    np.testing.assert_array_equal(pixels[1], beside[0])


def test_frames_are_padded_to_few_sizes():
    assert [next_side(side) for side in (1, 128, 129, 1080, 3840)] == [128, 128, 160, 1088, 3840]
    with pytest.raises(Absent, match="3841 px"):
        next_side(3841)


@dataclass(frozen=True)
class NameReader:
    """A clip is one chunk, its name; one named "broken" cannot be read, one named "lost" is no longer there."""

    def decodes(self, clip):
        return False

    def read(self, clip):
        if clip.name == "broken":
            raise Absent("it is broken")
        if clip.name == "lost":
            raise FileNotFoundError("it is lost")
        return [clip.name]

    def chunks(self, names):
        return names


def test_clips_are_read_in_order_and_those_that_cannot_be_say_why():
    names = [*map(str, range(40)), "broken", "40", "lost", "41"]
    read = list(read_all([(NameReader(), Clip(name, "train")) for name in names], ExtractionSettings(workers=3)))
    assert [content[0] for content in read[:40]] == names[:40]
    assert str(read[40]) == "it is broken" and str(read[42]) == "it is lost" and read[41] == ["40"]


def test_the_sound_of_another_track_is_another(tmp_path):
    """Its features must not be taken for the first one's. Frames are the same, and so is what older runs stored."""
    write_tracks(tmp_path / "two.mkv", "eng", "fra")
    best = Clip("a", "train", media=tmp_path / "two.mkv")
    french, reader = replace(best, audio_track="fra"), SpeechReader(RATE, 1.0)
    np.testing.assert_array_equal(reader.read(best), tone(0.5, 440.0))
    np.testing.assert_array_equal(reader.read(french), tone(0.5, 880.0))
    assert reader.identity(best) == identity(best.media) != reader.identity(french)
    assert VideoReader(224, 8).identity(best) == VideoReader(224, 8).identity(french)


@pytest.mark.parametrize("name", ["crops", "crops.npy"])
def test_images_are_decoded_where_a_process_can_be_lost(tmp_path, name):
    (tmp_path / "crops").mkdir()
    np.save(tmp_path / "crops.npy", np.zeros((1, 8, 8, 3), np.uint8))
    assert FaceReader(8, 8).decodes(Clip("a", "train", faces=tmp_path / name)) == (name == "crops")
