"""What is measured: models, batches and how long they may take; without JAX and torch, which both rivals read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from transformers import CLIPConfig, HubertConfig, LlamaConfig

from benchmarks.work import CLASSES, CLIP_L14, DIMS, HUBERT_LARGE, LABELLED

RATE = 16_000  # samples of a second of sound
LAYERS = 4  # the last ones, whose states are summed
KEPT_FRAMES = 8  # frames of a chunk of faces
CLASS_NAMES = ("neutral", "anger", "happiness", "sadness", "worry", "surprise")
HIDDEN, BATCH = 128, 64  # of fusion
SWEEP_DIMS = {"speech": 1024, "image": 768, "text": 768, "video": 768}


@dataclass(frozen=True)
class Sizes:
    """Of models and of what they compute; batches are candidates, of which the fastest counts."""

    clip: Any = field(default_factory=lambda: CLIP_L14)
    frames: tuple[int, ...] = (80, 320, 1280)  # of a batch
    hubert: Any = field(default_factory=lambda: HUBERT_LARGE)
    sounds: int = 2048
    longest: float = 10.0  # s, of the sounds
    batch_seconds: tuple[float, ...] = (130.0, 520.0)  # of sound in a batch, padding included
    llama: Any = field(default_factory=LlamaConfig)  # LLaMA 7B
    parity_layers: int = 4  # of the decoder where it is compared with float32 on the host
    tokens: int = 128  # of a prompt
    prompts: tuple[int, ...] = (16, 64, 256)
    step_clips: int = 16  # of EmoVCLIP's training step
    step_frames: int = 16  # of a clip
    step_depth: int = 12  # layers with prompts
    micro_batches: tuple[int, ...] = (2, 8, 16)  # clips of a step whose activations are held at once
    pictures: tuple[int, ...] = (16, 64, 256)  # frames in which faces are searched
    clips: int = LABELLED
    candidates: int = 20_000
    dims: Mapping[str, int] = field(default_factory=lambda: DIMS)
    epochs: int = 30
    sweep_clips: int = 2000
    sweep_settings: int = 50
    sweep_epochs: int = 6  # of the 30 in a measured call
    product: int = 8192  # rows and columns of the matrices that give the peak
    copied: int = 2**30  # bytes that are read, and written, for the bandwidth


def small_sizes() -> Sizes:
    """The same in seconds, on a CPU."""
    tower: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
    }
    clip = CLIPConfig(vision_config=tower | {"image_size": 28, "patch_size": 14}, text_config=tower, projection_dim=32)
    hubert = HubertConfig(**tower, conv_dim=(32,) * 7, feat_extract_norm="layer", do_stable_layer_norm=True)
    hubert.num_conv_pos_embeddings, hubert.num_conv_pos_embedding_groups = 16, 4
    return Sizes(
        clip=clip,
        frames=(8,),
        hubert=hubert,
        sounds=6,
        longest=2.0,
        batch_seconds=(4.0,),
        llama=LlamaConfig(**tower | {"num_hidden_layers": 4}, vocab_size=100),
        tokens=16,
        prompts=(2,),
        step_clips=2,
        step_frames=2,
        step_depth=2,
        micro_batches=(2,),
        pictures=(2,),
        clips=60,
        candidates=100,
        dims={"speech": 32, "text": 48},
        epochs=2,
        sweep_clips=60,
        sweep_settings=3,
        sweep_epochs=1,
        product=128,
        copied=2**20,
    )


def sounds(count: int, longest: float) -> list[np.ndarray]:
    """Clips of 1 s to `longest`, int16, in random order."""
    rng = np.random.default_rng(0)
    lengths = (np.linspace(1, longest, count) * RATE).astype(int)
    return [rng.integers(-9999, 9999, length, np.int16) for length in rng.permutation(lengths)]


def letters(texts: list[str]) -> dict[str, list[list[int]]]:
    """A tokenizer with a token per letter: which words they are does not matter for time."""
    return {"input_ids": [[49406, *(320 + ord(letter) for letter in text), 49407] for text in texts]}


def random_clips(dims: Mapping[str, int], clips: int) -> dict[str, np.ndarray]:
    """Features [clips, width] float32 of each modality."""
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((clips, width), np.float32) for name, width in dims.items()}


def random_labels(clips: int) -> np.ndarray:
    """[clips] int."""
    return np.random.default_rng(1).integers(CLASSES, size=clips)


def pictures(count: int) -> np.ndarray:
    """Frames uint8 [count, 192, 320, 3], each with one drawn face, of another size and at another place."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:192, :320] + 0.5
    frames = np.empty((count, 192, 320, 3), np.uint8)
    frames[:] = (120, 125, 130)
    for frame in frames:
        x, y, scale = rng.uniform(100, 220), rng.uniform(85, 105), rng.uniform(0.8, 1.2)
        for cx, cy, rx, ry, color in FACE:
            inside = ((columns - x) / scale - cx) ** 2 / rx**2 + ((rows - y) / scale - cy) ** 2 / ry**2 <= 1
            frame[inside] = color
    return frames


# Ellipses: centre and half axes about the face's middle, px, and colour.
FACE = [
    (0, -8, 50, 66, (60, 40, 30)),
    *((0, 6, 46 - i, 60 - i, (190 + 4 * i, 140 + 4 * i, 115 + 4 * i)) for i in range(10)),
    *((x, -23, 13, 3, (60, 40, 30)) for x in (-20, 20)),
    *((x, -10, 11, 6, (245, 245, 245)) for x in (-20, 20)),
    *((x, -10, 5, 5, (40, 30, 25)) for x in (-20, 20)),
    *((0, 6, 5, 16, (205, 150, 125)), (0, 17, 9, 5, (190, 130, 110))),
    *((0, 32, 18, 6, (170, 70, 70)), (0, 32, 14, 1.5, (90, 30, 30))),
]
