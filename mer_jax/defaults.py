"""What models and settings share: the modalities, and the paper's sizes. No settings class brings JAX."""

from collections.abc import Mapping

MODALITIES = ("speech", "image", "text", "video")
"""The shared vocabulary, those that have encoders; data sets may bring features of modalities of their own."""


def in_order(modality_of: Mapping[str, str]) -> dict[str, str]:
    """Streams and their modalities as they are ordered wherever they have an axis, in whatever order they come.

    MODALITIES first, then others by name; of a modality's streams the one of its name first, then others by name.
    """

    def place(stream: str) -> tuple[int, str, bool, str]:
        modality = modality_of[stream]
        known = MODALITIES.index(modality) if modality in MODALITIES else len(MODALITIES)
        return known, modality, stream != modality, stream

    return {stream: modality_of[stream] for stream in sorted(modality_of, key=place)}


HIDDEN, DROPOUT, MODALITY_DROPOUT = 128, 0.3, 0.3  # of the fusion head
NUM_PROMPTS, DEPTH = 4, 12  # of EmoVCLIP: tokens per layer, layers with tokens of their own
ATTENTION = ("auto", "xla", "cudnn", "pallas")  # implementations, of which mer_jax/models/attention.py tells
KEEP_LAYERS = 4  # the last hidden states that are summed (paper, section 3.2)
OVER_DEVICES = ("pmap", "shard_map")  # how trials spread over them (mer_jax/runtime/devices.py); the first by default
