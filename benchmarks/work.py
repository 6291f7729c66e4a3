"""How much there is to compute: the paper's model sizes, and FLOPs of their matrix products, counted by hand.

A product of [m, k] and [k, n] takes 2 m k n FLOPs. Norms, activations, softmax and pooling are left out: on an
accelerator the products set the pace. What is counted is what the result needs: a layer of which one token is read
later is charged for that token's queries alone.
"""

from collections.abc import Mapping
from typing import Any

from transformers import BertConfig, CLIPConfig, Dinov2Config, HubertConfig, SiglipConfig, WavLMConfig, WhisperConfig

from mer_jax.models.baichuan_config import BaichuanConfig
from mer_jax.models.log_mel import HOP, OVERLAP, WINDOW

# Any: transformers' fields are typed too loosely for a type checker.
CLIP_L14: Any = CLIPConfig(
    vision_config={
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
    },
    text_config={"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
    projection_dim=768,
)
LARGE: dict[str, Any] = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
LARGE_SPEECH = LARGE | {"intermediate_size": 4096, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
HUBERT_LARGE: Any = HubertConfig(**LARGE_SPEECH, conv_bias=True)
WAVLM_LARGE: Any = WavLMConfig(**LARGE_SPEECH)
DINOV2_LARGE: Any = Dinov2Config(**LARGE, image_size=518, patch_size=14)
DINOV2_SIDE = 224  # px of an image, by its preprocessing
SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
SIGLIP2_SO400M: Any = SiglipConfig(vision_config={**SO400M, "image_size": 384, "patch_size": 14})
WHISPER_LARGE: Any = WhisperConfig(
    d_model=1280, encoder_layers=32, encoder_attention_heads=20, encoder_ffn_dim=5120, num_mel_bins=128
)
WHISPER_SECONDS = 30.0  # of any clip
MACBERT_LARGE: Any = BertConfig(**LARGE, intermediate_size=4096, vocab_size=21_128)
BAICHUAN_13B: Any = BaichuanConfig(vocab_size=64_000)

DIMS: dict[str, int] = {  # the widths that fusion takes: mean and variance of features, but of whole frames the mean
    "speech": 2 * HUBERT_LARGE.hidden_size,
    "image": 2 * CLIP_L14.projection_dim,
    "text": 2 * BAICHUAN_13B.hidden_size,
    "video": CLIP_L14.projection_dim,
}

# MER2024: clips with a label, without, room for pseudo-labelled ones; folds and classes.
LABELLED, CANDIDATES, PSEUDO_LABELLED, FOLDS, CLASSES = 5030, 115_595, 600, 5, 6
CLIP_SECONDS, CLIP_FACES, CLIP_TOKENS = 4.0, 128, 128  # of an ordinary clip; about 5 s of faces
FACE_SIDE = 128  # px of an aligned face


def layer_flops(tokens: int, width: int, inner: int, matrices: int = 2, queries: int | None = None) -> float:
    """One transformer layer on one sequence.

    Args:
        tokens: in the sequence; each has a key and a value.
        width: of the hidden states.
        inner: of the feed-forward network.
        matrices: width x inner that it has: 2, or 3 where it is gated.
        queries: the tokens that are needed from the layer; None for all.
    """
    queries = tokens if queries is None else queries
    linear = 2 * queries * (2 * width**2 + matrices * width * inner) + 2 * tokens * 2 * width**2
    return linear + 4 * queries * tokens * width


def vit_tokens(config: Any, num_prompts: int = 0) -> int:
    """Patches, class token and prompts in the image tower of a CLIPConfig."""
    return (config.vision_config.image_size // config.vision_config.patch_size) ** 2 + 1 + num_prompts


def patch_flops(config: Any) -> float:
    """Embedding the patches of one image."""
    return 2.0 * (vit_tokens(config) - 1) * 3 * config.vision_config.patch_size**2 * config.vision_config.hidden_size


def vit_flops(config: Any, num_prompts: int = 0) -> float:
    """The image tower of a CLIPConfig on one image; of the last layer only the class token is needed."""
    tower, tokens = config.vision_config, vit_tokens(config, num_prompts)
    width, inner = tower.hidden_size, tower.intermediate_size
    layers = (tower.num_hidden_layers - 1) * layer_flops(tokens, width, inner)
    last = layer_flops(tokens, width, inner, queries=1)
    return patch_flops(config) + layers + last + 2 * width * config.projection_dim


def resize_flops(source: int, size: int) -> float:
    """One square RGB image from `source` to `size` pixels a side: two products, each of three parts of the weights.

    See mer_jax.models.preprocess.
    """
    return 2.0 * 3 * 3 * source * size * (source + size)


def hubert_flops(config: Any, samples: int) -> float:
    """A HubertConfig's encoder on one clip of so many samples: convolutions and layers."""
    flops, frames, channels = 0.0, samples, 1
    for width, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        frames = (frames - kernel) // stride + 1
        flops += 2.0 * frames * kernel * channels * width
        channels = width
    width = config.hidden_size
    flops += 2 * frames * channels * width
    flops += 2 * frames * config.num_conv_pos_embeddings * width**2 / config.num_conv_pos_embedding_groups
    return flops + config.num_hidden_layers * layer_flops(frames, width, config.intermediate_size)


def wavlm_flops(config: Any, samples: int) -> float:
    """A WavLMConfig's: HuBERT's, and the gates of each layer's bias."""
    frames = samples
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        frames = (frames - kernel) // stride + 1
    return hubert_flops(config, samples) + config.num_hidden_layers * 2.0 * frames * config.hidden_size * 8


def dinov2_flops(config: Any, side: int = DINOV2_SIDE) -> float:
    """A Dinov2Config's encoder on one image; of the last layer only the class token is needed."""
    width, patches = config.hidden_size, (side // config.patch_size) ** 2
    inner = int(width * config.mlp_ratio)
    layers = (config.num_hidden_layers - 1) * layer_flops(patches + 1, width, inner)
    last = layer_flops(patches + 1, width, inner, queries=1)
    return 2.0 * patches * 3 * config.patch_size**2 * width + layers + last


def siglip_flops(config: Any) -> float:
    """The image tower of a SiglipConfig on one image; of the head only the learned query asks."""
    tower, patches = config.vision_config, (config.vision_config.image_size // config.vision_config.patch_size) ** 2
    width, inner = tower.hidden_size, tower.intermediate_size
    head = layer_flops(patches, width, inner, queries=1) - 2 * width**2  # whose own projection is made once for all
    layers = tower.num_hidden_layers * layer_flops(patches, width, inner)
    return 2.0 * patches * 3 * tower.patch_size**2 * width + layers + head


def whisper_flops(config: Any) -> float:
    """A WhisperConfig's encoder on one clip, with its spectrogram: always as many frames as it has positions."""
    width, frames, bins = config.d_model, config.max_source_positions, config.num_mel_bins
    frequencies = WINDOW // 2 + 1
    spectrogram = 2.0 * 2 * frames * (OVERLAP * HOP * 2 * frequencies + frequencies * bins)
    convolutions = 2.0 * 3 * (2 * frames * bins * width + frames * width**2)
    return spectrogram + convolutions + config.encoder_layers * layer_flops(frames, width, config.encoder_ffn_dim)


def bert_flops(config: Any, tokens: int) -> float:
    """A BertConfig's encoder on one text."""
    return config.num_hidden_layers * layer_flops(tokens, config.hidden_size, config.intermediate_size)


def decoder_flops(config: Any, tokens: int) -> float:
    """A decoder with a gated feed-forward network (Baichuan, LLaMA) on one text, without its output head."""
    return config.num_hidden_layers * layer_flops(tokens, config.hidden_size, config.intermediate_size, matrices=3)


def tuned_tower_flops(tower: Any, tokens: int, depth: int, num_prompts: int) -> float:
    """One sequence through one CLIP tower in a training step on its prompts: forward, and backward to inputs alone.

    The least that it takes. Not needed: more than keys and values of prompts that the next layer replaces; more than
    the pooled token of the last layer; gradients of anything before the first layer's prompts.

    Args:
        tower: CLIPVisionConfig or CLIPTextConfig.
        tokens: of the sequence, without prompts.
        depth: layers with prompts of their own; those of the last one are ordinary tokens from there on.
        num_prompts: of a layer.
    """
    width, inner, keys = tower.hidden_size, tower.intermediate_size, tokens + num_prompts
    total = 0.0
    for layer in range(tower.num_hidden_layers):
        # Prompts that are replaced are the same for all sequences: their keys and values are made once, uncounted.
        inputs = keys if layer >= depth - 1 else tokens
        queries = 1 if layer == tower.num_hidden_layers - 1 else inputs
        forward = 2 * queries * (2 * width**2 + 2 * width * inner) + 2 * inputs * 2 * width**2
        # Of the first layer's inputs none but prompts want gradients, which come in through its keys and values.
        backward = forward if layer else 2 * queries * (width**2 + 2 * width * inner)
        attended = 4 * queries * keys * width
        total += forward + backward + (3 if layer else 2.5) * attended
    return total


def prompt_step_flops(
    config: Any,
    images: int,
    texts: int,
    length: int,
    depth: tuple[int, int] = (12, 12),
    num_prompts: tuple[int, int] = (4, 4),
) -> float:
    """One training step on the prompts of a CLIPConfig's EmoVCLIP; depth, num_prompts: of vision and text.

    images: frames in the step. texts: of the classes, `length` tokens each without prompts.
    """
    patches = images * patch_flops(config)  # forward only
    vision = tuned_tower_flops(config.vision_config, vit_tokens(config), depth[0], num_prompts[0])
    text = tuned_tower_flops(config.text_config, length, depth[1], num_prompts[1])
    return patches + images * vision + texts * text


def fusion_flops(dims: Mapping[str, int], hidden: int = 128, classes: int = CLASSES) -> float:
    """AttentionFusion on one clip: three layers for each modality and for the scorer, attention and classifier."""
    widths = [*dims.values(), len(dims) * hidden]
    return 2.0 * (sum(width * hidden + 2 * hidden**2 for width in widths) + hidden * (len(dims) + classes))


def fusion_step_flops(dims: Mapping[str, int], hidden: int = 128, classes: int = CLASSES) -> float:
    """One clip in a training step of it: forward, to the weights, and to the inputs of all but the first layers."""
    return 3 * fusion_flops(dims, hidden, classes) - 2 * sum(dims.values()) * hidden
