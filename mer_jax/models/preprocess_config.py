"""A checkpoint's own preprocessing, as its folder says it to transformers' image processors and
`Wav2Vec2FeatureExtractor`: read, or refused by the name of the field that we cannot follow."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from mer_jax.models.preprocess import FILTERS, OPENAI, Preprocessing
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import load_object

IMAGE_CLASSES = {  # by the network's `model_type`, the first is the usual one
    "clip": ("CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil", "CLIPFeatureExtractor"),
    "dinov2": ("BitImageProcessor", "BitImageProcessorFast", "BitImageProcessorPil"),
}
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
    """What a network's frames go through; OpenAI's, where its folder says nothing.

    Args:
        folder: of the checkpoint.
        side: of the images it takes, px.
        kind: of IMAGE_CLASSES.

    Raises:
        DataError: a field asks for what we cannot do, or for images of another size.
    """
    fields, classes = Fields(folder, "image_processor"), IMAGE_CLASSES[kind]
    if fields.values is None:
        return OPENAI
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
    fields = Fields(folder, "feature_extractor", "audio_processor")
    if fields.values is None:
        return True
    if fields.get("feature_extractor_type") not in (None, "Wav2Vec2FeatureExtractor"):
        fields.refuse("feature_extractor_type", "Wav2Vec2FeatureExtractor")
    if fields.get("feature_size") not in (None, 1):
        fields.refuse("feature_size", "1")
    if fields.get("sampling_rate", 16_000) not in (None, rate):
        fields.refuse("sampling_rate", f"{rate}", "set encoders.speech.sample_rate to the checkpoint's")
    return bool(fields.get("do_normalize", True))


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
