"""A checkpoint's own preprocessing, as its folder says it to transformers' image processors and feature extractors of
sound: read, or refused by the name of the field that we cannot follow."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from mer_jax.models.log_mel import HOP, RATE, WINDOW
from mer_jax.models.preprocess import FILTERS, OPENAI, Preprocessing
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import load_object

IMAGE_CLASSES = {  # by the network's `model_type`, the first is the usual one
    "clip": ("CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil", "CLIPFeatureExtractor"),
    "dinov2": ("BitImageProcessor", "BitImageProcessorFast", "BitImageProcessorPil"),
    "siglip": ("SiglipImageProcessor", "SiglipImageProcessorFast", "SiglipImageProcessorPil"),
}
SIGLIP: Mapping[str, Any] = {"size": {"height": 224, "width": 224}, "do_center_crop": False}
LACKING = {"siglip": {**SIGLIP, "image_mean": 0.5, "image_std": 0.5}}  # defaults other than CLIP's, by `model_type`
IMAGE_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")  # frames are RGB


class Fields:
    """The fields of a folder's preprocessing; those that are lacking have transformers' defaults, and null is false."""

    def __init__(self, folder: Path, *sections: str):
        """sections: of `processor_config.json`, which goes before `preprocessor_config.json`."""
        self.values: Mapping[str, Any] | None = None
        for path in (folder / "processor_config.json", folder / "preprocessor_config.json"):
            if self.values is None and path.is_file():
                content = load_object(path)
                nested = next((content[section] for section in sections if content.get(section)), None)
                self.file = path
                self.values = content if path.name == "preprocessor_config.json" else nested

    def get(self, name: str, default: Any = None) -> Any:
        return (self.values or {}).get(name, default)

    def refuse(self, name: str, expected: str, advice: str = "use another checkpoint") -> NoReturn:
        value = (self.values or {}).get(name)
        raise DataError(f"{self.file}: {name} is {value!r}; expected {expected}: {advice}.")


def crop_side(folder: Path, patch: int) -> int:
    """Side of the images, px, of a network that takes any: what its folder crops to.

    Raises:
        DataError: it does not say, or not a square of at least a patch.
    """
    fields = Fields(folder, "image_processor")
    if fields.values is None:
        raise DataError(f"{folder}: no preprocessor_config.json, which says the images' size; download it again.")
    size = _size(fields, "crop_size", {"height": 224, "width": 224})
    height, width = size if isinstance(size, tuple) else (size, size)
    if height != width or height < patch:
        fields.refuse("crop_size", f"a square of at least {patch} px")
    return height


def image_preprocessing(folder: Path, side: int, kind: str = "clip") -> Preprocessing:
    """What a network's frames go through; OpenAI's, where a CLIP's folder says nothing.

    Args:
        folder: of the checkpoint.
        side: of the images it takes, px.
        kind: of IMAGE_CLASSES.

    Raises:
        DataError: a field asks for what we cannot do, or for images of another size.
    """
    fields, classes = Fields(folder, "image_processor"), IMAGE_CLASSES[kind]
    if fields.values is None and kind == "clip":
        return OPENAI
    if fields.values is None:
        raise DataError(f"{folder}: no preprocessor_config.json, which says how images are resized; download it again.")
    fields.values = LACKING.get(kind, {}) | dict(fields.values)
    for name in ("image_processor_type", "feature_extractor_type"):
        if fields.get(name) not in (None, *classes):
            fields.refuse(name, classes[0])
    for name, value in fields.values.items():
        if name.startswith(("do_", "use_square_size")) and name not in IMAGE_STEPS and value:
            fields.refuse(name, "false")
    resize, crop, rescale, normalise, _ = (bool(fields.get(name, True)) for name in IMAGE_STEPS)
    size = _size(fields, "size", {"shortest_edge": 224}) if resize else None
    if crop:
        if _size(fields, "crop_size", {"height": 224, "width": 224}) not in (side, (side, side)):
            fields.refuse("crop_size", f"{side} x {side} px, the image_size of config.json")
    elif not resize:
        fields.refuse("do_resize", "true, since do_center_crop is false and frames are of any size")
    elif size != (side, side):
        fields.refuse("size", f"a height and a width of {side} px, since do_center_crop is false")
    resample = fields.get("resample", OPENAI.resample)
    if resize and not (isinstance(resample, int) and resample in FILTERS):
        fields.refuse("resample", f"one of {', '.join(map(str, FILTERS))} (Pillow's filters)")
    factor = fields.get("rescale_factor", 1 / 255) if rescale else 1.0
    if not isinstance(factor, int | float) or not 0 < factor < math.inf:
        fields.refuse("rescale_factor", "a number above 0")
    mean = _channels(fields, "image_mean", OPENAI.mean, -math.inf) if normalise else (0.0,) * 3
    std = _channels(fields, "image_std", OPENAI.std, 0.0) if normalise else (1.0,) * 3
    size = None if size == side else size
    return Preprocessing(resize, size, resample if resize else OPENAI.resample, 1 / factor, mean, std)


def normalises_sound(folder: Path, rate: int) -> bool:
    """Whether a HuBERT's or wav2vec 2.0's clips are brought to zero mean and unit variance. rate: of the sound, Hz.

    `padding_value` and `return_attention_mask` say what padding is, which no result of ours depends on.

    Raises:
        DataError: the checkpoint is for sound of another kind.
    """
    fields = _sound_fields(folder, rate, {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1})
    return bool(fields.get("do_normalize", True))


def log_mel_seconds(folder: Path, rate: int, config: Any) -> float:
    """Of sound that a Whisper of a config takes at once. rate: of the sound, Hz.

    Raises:
        DataError: the checkpoint is for sound of another kind, or of other windows than `log_mel`'s.
    """
    if rate != RATE:
        raise DataError(f"{folder}: a Whisper is for sound of {RATE} Hz: set encoders.speech.sample_rate={RATE}.")
    seconds = 2 * HOP * config.max_source_positions / RATE
    expected = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": config.num_mel_bins}
    expected |= {"n_fft": WINDOW, "hop_length": HOP, "chunk_length": seconds, "dither": 0, "padding_value": 0}
    _sound_fields(folder, rate, expected)
    return seconds


def _sound_fields(folder: Path, rate: int, expected: Mapping[str, Any]) -> Fields:
    """What a folder says of sound, if it is of these values and of that rate, Hz, as far as it says so."""
    fields = Fields(folder, "feature_extractor", "audio_processor")
    for name, value in expected.items():
        if fields.get(name) not in (None, value):
            fields.refuse(name, f"{value}")
    if fields.get("sampling_rate", RATE if fields.values else rate) not in (None, rate):
        fields.refuse("sampling_rate", f"{rate}", "set encoders.speech.sample_rate to the checkpoint's")
    return fields


def _size(fields: Fields, name: str, default: Any) -> tuple[int, int] | int:
    """(height, width), or the shorter edge."""
    value = fields.get(name, default)
    match {key: edge for key, edge in value.items() if edge} if isinstance(value, dict) else value:
        case {"height": int(height), "width": int(width), **other} if not other:
            return height, width
        case {"shortest_edge": int(edge), **other} if not other and name == "size":
            return edge
        case [int(height), int(width)]:
            return height, width
        case int(edge) if edge > 0:
            return (edge, edge) if fields.get("default_to_square") else edge
    fields.refuse(name, "a shortest_edge, or a height and a width" if name == "size" else "a height and a width")


def _channels(fields: Fields, name: str, default: tuple[float, ...], above: float) -> tuple[float, ...]:
    """A number for each channel."""
    value = fields.get(name, default)
    channels = tuple(value) if isinstance(value, list | tuple) else (value,) * 3
    if len(channels) != 3 or not all(isinstance(x, int | float) and above < x < math.inf for x in channels):
        fields.refuse(name, "three numbers" + " above 0" * (above == 0))
    return tuple(map(float, channels))
