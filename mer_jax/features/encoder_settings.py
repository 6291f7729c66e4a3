"""What is asked of the four frozen encoders."""

from dataclasses import dataclass

from mer_jax.checkpoints.sources import DTYPES, wrong_source
from mer_jax.defaults import ATTENTION, KEEP_LAYERS
from mer_jax.runtime.settings import few, section, setting

POOLING = ("mean+variance", "mean")  # of the features of a clip's frames


@dataclass(frozen=True)
class SpeechSettings:
    """HuBERT on the sound: `config.encoders.speech`."""

    source: str = setting("TencentGameMate/chinese-hubert-large", wrong=wrong_source)
    dtype: str = setting("bfloat16", choices=DTYPES)
    attention: str = setting("auto", choices=ATTENTION)
    sample_rate: int = setting(16_000, least=1)
    chunk_seconds: float = setting(10.0, above=0)  # of the pieces of longer sounds; a Whisper's are its 30 s
    keep_layers: int = setting(KEEP_LAYERS, least=1)
    pooling: str = setting(POOLING[0], choices=POOLING)
    # Of 8n frames, a TPU's tiles. A Whisper has none shorter than its pieces.
    buckets_seconds: tuple[float, ...] = setting((1.605, 2.085, 3.045, 4.005, 5.125, 6.085, 7.045, 8.485), above=0)
    batch_seconds: float = setting(97.0, above=0)  # of a device's batch, padding included; what fits on the chip


@dataclass(frozen=True)
class ImageSettings:
    """CLIP on aligned faces: `config.encoders.image`."""

    source: str = setting("openai/clip-vit-large-patch14", wrong=wrong_source)
    dtype: str = setting("bfloat16", choices=DTYPES)
    attention: str = setting("auto", choices=ATTENTION)
    pooling: str = setting(POOLING[0], choices=POOLING)
    buckets_frames: tuple[int, ...] = setting(
        (8,), least=1, wrong=few
    )  # longer clips go in chunks, so little is padding
    batch_frames: int = setting(160, least=1)  # of 256 patches, what fits on a TPU's chip; fewer of more
    most_frames: int = setting(0, least=0)  # of a clip with more faces, so many evenly spaced ones; 0: all


@dataclass(frozen=True)
class TextSettings:
    """Baichuan on ranking and transcript: `config.encoders.text`."""

    source: str = setting("baichuan-inc/Baichuan-13B-Base", wrong=wrong_source)
    dtype: str = setting("bfloat16", choices=DTYPES)
    attention: str = setting("auto", choices=ATTENTION)
    keep_layers: int = setting(KEEP_LAYERS, least=1)
    pooling: str = setting(POOLING[0], choices=POOLING)
    buckets_tokens: tuple[int, ...] = setting((48, 64, 80, 96, 128, 192, 256, 512), least=1, wrong=few)
    batch_tokens: int = setting(8192, least=1)
    model_parallel: int = setting(1, least=1)  # devices that share one copy; 13B wants 4 of 16 GB, 2 of 32


@dataclass(frozen=True)
class VideoSettings:
    """EmoVCLIP on whole frames: `config.encoders.video`."""

    source: str = setting("openai/clip-vit-large-patch14", wrong=wrong_source)
    dtype: str = setting("bfloat16", choices=DTYPES)
    attention: str = setting("auto", choices=ATTENTION)
    num_frames: int = setting(16, least=1)
    batch_frames: int = setting(160, least=1)


@dataclass(frozen=True)
class EncoderSettings:
    """An encoder for each modality, by default the paper's: `config.encoders`."""

    speech: SpeechSettings = section(SpeechSettings)
    image: ImageSettings = section(ImageSettings)
    text: TextSettings = section(TextSettings)
    video: VideoSettings = section(VideoSettings)
