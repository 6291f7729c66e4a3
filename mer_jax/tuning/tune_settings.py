"""How EmoVCLIP's prompts are trained."""

from dataclasses import dataclass
from functools import partial

from mer_jax.defaults import DEPTH, NUM_PROMPTS, OVER_DEVICES
from mer_jax.runtime.settings import section, setting
from mer_jax.text.templates import CLASS_PROMPTS


@dataclass(frozen=True)
class PerTower:
    """A number for each of CLIP's towers."""

    vision: int = setting(0, least=0)
    text: int = setting(0, least=0)


@dataclass(frozen=True)
class TuneSettings:
    """How EmoVCLIP's prompts are trained, by default as in the paper: `config.tune`."""

    mode: str = setting("per_fold", choices=("per_fold", "all_labelled"))  # the latter have seen the validation clips
    num_prompts: PerTower = section(partial(PerTower, NUM_PROMPTS, NUM_PROMPTS))  # tokens per layer of a tower
    depth: PerTower = section(partial(PerTower, DEPTH, DEPTH))  # layers with prompts of their own; 0: plain CLIP
    class_prompts: str = setting("en-1", choices=tuple(CLASS_PROMPTS))
    batch_size: int = setting(16, least=1)
    micro_batch: int = setting(1, least=0)  # clips whose activations a device holds; 0: all of a step, of all its sets
    epochs: int = setting(20, least=1)
    warmup_epochs: int = setting(5, least=0)
    learning_rate: float = setting(4e-4, above=0)
    weight_decay: float = setting(1e-3, least=0)
    label_smoothing: float = setting(0.1, least=0, most=0.99)
    remat: bool = setting(False)  # True: recompute each layer in the backward pass, for still less memory
    over_devices: str = setting(OVER_DEVICES[0], choices=OVER_DEVICES, decisive=False)
