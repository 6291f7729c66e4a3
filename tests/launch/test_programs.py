"""The programs of the ahead-of-time check: each can be traced, and gives what its run would."""

import jax
import numpy as np
import pytest

from configs.semi import get_config
from launch.programs import all_programs

OUTPUTS = {
    "CLIP L/14": (10, 1536),
    "HuBERT-large": (16, 2048),
    "EmoVCLIP L/14 extraction": (10, 5, 768),  # as many sets of prompts as folds
    "EmoVCLIP L/14 training": (12, 4, 768),  # prompts, a set per text layer
    "Baichuan-13B": (64, 10240),
    "fusion": (5, 4),
}


@pytest.fixture(scope="module")
def programs():
    return all_programs(get_config("mer2024,root=unread"), np.array(jax.devices()[:1]))


@pytest.mark.parametrize("index, name", [*enumerate(OUTPUTS)])
def test_program_can_be_traced(programs, index, name):
    program = programs[index]
    assert program.name.startswith(name) and program.flops > 0
    out = jax.eval_shape(program.function, *program.arguments)
    assert jax.tree.leaves(out)[0].shape == OUTPUTS[name]
