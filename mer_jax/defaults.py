"""What models and settings share: the modalities, and the paper's sizes. No settings class brings JAX."""

MODALITIES = ("speech", "image", "text", "video")
"""The shared vocabulary; wherever modalities have an axis, they are in this order."""

HIDDEN, DROPOUT, MODALITY_DROPOUT = 128, 0.3, 0.3  # of the fusion head
NUM_PROMPTS, DEPTH = 4, 12  # of EmoVCLIP: tokens per layer, layers with tokens of their own
ATTENTION = ("auto", "xla", "cudnn")  # implementations of `mer_jax.models.attention`, which says what they are
KEEP_LAYERS = 4  # the last hidden states that are summed (paper, section 3.2)
OVER_DEVICES = ("pmap", "shard_map")  # how trials spread over them (mer_jax/runtime/devices.py); the first by default
