"""What the streams of a run are: one source of embeddings each, an encoder's or ready-made files, of one modality."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from mer_jax.features.encoder_settings import ImageSettings, SpeechSettings, TextSettings
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.settings import setting

# Stages of a command, and what stands for modalities in a cell.
RESERVED = ("self", "kernel", "all", "none", "data", "faces", "ranking", "prompts", "fusion", "report")


def unusable(name: str) -> str:
    """What is wrong with a name of a stream or modality, which names files, flags and parameters; empty if nothing."""
    taken = name in RESERVED or hasattr(dict, name)
    usable = re.fullmatch(r"[A-Za-z0-9][\w-]*", name, re.ASCII) and not taken
    return "" if usable else f"expected letters, digits, - and _, and no {name!r}"


@dataclass(frozen=True)
class StreamSettings:
    """A stream beside the first of its modality: `config.streams.NAME`."""

    modality: str = setting("", wrong=unusable)

    @staticmethod
    def among(values: Mapping[str, Any]) -> type["StreamSettings"]:
        """The class of a stream: ready-made, or by its modality an encoder."""
        encoded = {"speech": SpeechStream, "image": ImageStream, "text": TextStream}
        return ReadyMadeStream if values.get("feature") else encoded.get(values.get("modality", ""), ReadyMadeStream)

    def stream(self, section: str) -> "Stream":
        """The encoder that these settings are of. section: where they stand."""
        return Stream(self.modality, self, section=section)


@dataclass(frozen=True)
class ReadyMadeStream(StreamSettings):
    """Features that the data set brings."""

    feature: str = setting("", wrong=lambda name: "" if name else "expected a folder under features/")

    def stream(self, section: str) -> "Stream":
        return Stream(self.modality, feature=self.feature, section=section)


@dataclass(frozen=True)
class SpeechStream(SpeechSettings, StreamSettings):
    """One more encoder of the sound."""


@dataclass(frozen=True)
class ImageStream(ImageSettings, StreamSettings):
    """One more encoder of aligned faces."""


@dataclass(frozen=True)
class TextStream(TextSettings, StreamSettings):
    """One more encoder of ranking and transcript."""


class Stream(NamedTuple):
    """A stream that a run has."""

    modality: str
    encoder: Any = None  # one of the settings classes of encoders
    feature: str = ""  # without an encoder, the folder under `features/` with ready-made `{name}.npy`
    section: str = ""  # of the settings, where the encoder's stand

    @property
    def source(self) -> str:
        """The encoder's checkpoint; empty without one."""
        return self.encoder.source if self.encoder else ""


def stream_name(source: str) -> str:
    """What a stream is called after a checkpoint or a folder of features."""
    return re.sub(r"[^\w-]", "_", PurePosixPath(source.partition("@")[0]).name, flags=re.ASCII)


def ready_made_streams(modality: str, features: str) -> dict[str, str]:
    """Stream -> folder, of a modality's "+"-joined folders: one alone is called as the modality.

    Raises:
        UsageError: two would be called alike.
    """
    folders = [folder for folder in features.split("+") if folder]
    if len(folders) == 1:
        return {modality: folders[0]}
    streams = {stream_name(folder): folder for folder in folders}
    if problem := next(filter(None, map(unusable, streams)), ""):
        raise UsageError(f"{modality}_feature={features!r}: a stream is called after its folder: {problem}")
    if len(streams) < len(folders):
        raise UsageError(f"{modality}_feature={features!r}: two of its streams are called alike; rename a folder")
    return streams
