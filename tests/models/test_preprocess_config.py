"""A folder's own preprocessing against transformers' processors, and what is refused by name."""

import json

import jax
import numpy as np
import PIL
import pytest
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mer_jax.features.readers import frame_chunk
from mer_jax.models.preprocess import OPENAI, clip_pixels
from mer_jax.models.preprocess_config import image_preprocessing, normalises_sound
from mer_jax.runtime.errors import DataError

SIDE = 32
CROP = {"crop_size": {"height": SIDE, "width": SIDE}, "size": {"shortest_edge": SIDE}}


def write(folder, config, name="preprocessor_config.json"):
    (folder / name).write_text(json.dumps(config), "utf-8")
    return folder


def test_a_folder_that_says_nothing_or_what_openai_says_has_openais(tmp_path):
    assert image_preprocessing(tmp_path, 224) == OPENAI
    processor = CLIPImageProcessorPil()
    processor.save_pretrained(tmp_path)
    assert image_preprocessing(tmp_path, 224) == OPENAI and not OPENAI.changes
    assert image_preprocessing(write(tmp_path, {}), 224) == OPENAI


@pytest.mark.parametrize("shape", [(112, 112), (41, 67), (60, 90), (20, 33), (200, 50)])
@pytest.mark.parametrize(
    "config",
    [
        {"image_mean": [0.5] * 3, "image_std": [0.5, 0.25, 1]},
        {"image_mean": 0.5, "image_std": 0.5},
        *({"resample": number} for number in (1, 2, 4, 5)),
        {"size": 40},
        {"size": 40, "default_to_square": True},
        {"size": {"shortest_edge": 24}},
        {"size": {"height": 40, "width": 36}, "resample": 2},
        {"size": [SIDE, SIDE], "do_center_crop": False},
        {"do_resize": False},
        *({f"do_{step}": None} for step in ("resize", "rescale", "normalize")),
        {"do_normalize": False, "crop_size": SIDE},
        {"do_rescale": False},
        {"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]},
        {"do_convert_rgb": False, "feature_extractor_type": "CLIPFeatureExtractor"},
    ],
)
def test_equals_the_clip_image_processor(tmp_path, config, shape):
    """Bytes are Pillow's; a crop wider than what was resized is black at its rim.

    Pillow before 13 resizes the width before the height always, which moves bytes of tall frames by rounding.
    """
    config = CROP | config
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    write(tmp_path, config)
    processor = CLIPImageProcessorPil.from_pretrained(tmp_path)
    expected = processor(Image.fromarray(image), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    preprocessing = image_preprocessing(tmp_path, SIDE)
    if preprocessing.vertical_first(*shape, SIDE) and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("Pillow 13's order")
    chunk = frame_chunk(image[None], SIDE, preprocessing)
    arrays = (array[None] for array in (chunk.data, *chunk.side))
    pixels = jax.jit(clip_pixels, static_argnames="preprocessing")(*arrays, preprocessing=preprocessing)[0, 0]
    np.testing.assert_allclose(pixels, expected, rtol=1e-6, atol=1e-5)


def test_the_nested_config_of_newer_folders_goes_first(tmp_path):
    write(tmp_path, CROP | {"image_mean": [0.1] * 3})
    write(tmp_path, {"image_processor": CROP | {"image_mean": [0.5] * 3}}, "processor_config.json")
    assert image_preprocessing(tmp_path, SIDE).mean == (0.5, 0.5, 0.5)
    write(tmp_path, {"processor_class": "CLIPProcessor"}, "processor_config.json")
    assert image_preprocessing(tmp_path, SIDE).mean == (0.1, 0.1, 0.1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"crop_size": {"height": 48, "width": 48}}, r"crop_size is \{'height': 48, 'width': 48\}; expected 32 x 32"),
        ({"crop_size": None}, "crop_size is None; expected a height and a width"),
        ({"size": None}, "size is None; expected a shortest_edge"),
        ({"resample": None}, "resample is None; expected one of"),
        ({"resample": 3.0}, "resample is 3.0; expected one of"),  # which transformers takes for bilinear
        ({"image_mean": None, "image_std": None}, "image_mean is None; expected three numbers"),
        ({"rescale_factor": None}, "rescale_factor is None; expected a number above 0"),
        ({"do_center_crop": None}, "size is .*; expected a height and a width of 32 px"),
        ({"do_center_crop": False}, "size is .*; expected a height and a width of 32 px"),
        ({"do_center_crop": False, "do_resize": False}, "do_resize is False"),
        ({"size": {"shortest_edge": 32, "longest_edge": 64}}, "size is"),
        ({"resample": 0}, "resample is 0; expected one of 1, 2, 3, 4, 5"),
        ({"do_pad": True}, "do_pad is True; expected false"),
        ({"image_std": [1, 1, 0]}, r"image_std is \[1, 1, 0\]; expected three numbers above 0"),
        ({"image_mean": [0.5]}, r"image_mean is \[0.5\]; expected three numbers"),
        ({"rescale_factor": 0}, "rescale_factor is 0"),
        ({"image_processor_type": "SiglipImageProcessor"}, "image_processor_type is 'SiglipImageProcessor'"),
    ],
)
def test_what_cannot_be_followed_is_named(tmp_path, config, message):
    with pytest.raises(DataError, match=message) as error:
        image_preprocessing(write(tmp_path, CROP | config), SIDE)
    assert "\n" not in str(error.value) and "preprocessor_config.json" in str(error.value)


def test_sound(tmp_path):
    assert normalises_sound(tmp_path, 8_000)
    assert normalises_sound(write(tmp_path, {"padding_value": 1.0, "return_attention_mask": False}), 16_000)
    assert not normalises_sound(write(tmp_path, {"do_normalize": False}), 16_000)
    assert not normalises_sound(write(tmp_path, {"do_normalize": None, "sampling_rate": None}), 16_000)
    write(tmp_path, {"feature_extractor": {"do_normalize": True}}, "processor_config.json")
    assert normalises_sound(tmp_path, 16_000)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"sampling_rate": 8000}, "sampling_rate is 8000; expected 16000: set encoders.speech.sample_rate"),
        ({"feature_size": 2}, "feature_size is 2; expected 1"),
        ({"feature_extractor_type": "WhisperFeatureExtractor"}, "feature_extractor_type is 'Whisper"),
        ([], "not a JSON object"),
    ],
)
def test_sound_of_another_kind_is_refused(tmp_path, config, message):
    with pytest.raises(DataError, match=message):
        normalises_sound(write(tmp_path, config), 16_000)
