"""The programs of the ahead-of-time check: each gives what its run would, knows its loops and how much it computes."""

from typing import NamedTuple

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks.work import CLIP_L14
from configs.semi import get_config
from launch.programs import all_programs, uncounted_layers
from mer_jax.models import CLIP
from mer_jax.models.prompted_clip import encode_image
from mer_jax.runtime.settings import read_settings
from mer_jax.settings import Settings
from tests.product_flops import product_flops


class Expected(NamedTuple):
    """What is known of a program. Errors are relative; a layer more or less in a loop would be 0.04, a frame 0.06."""

    output: tuple[int, ...]  # shape of its first output
    loops: float = 1e-12  # error of the first passes and the loops against every pass
    flops: float = 1e-12  # error of the count by hand


EXPECTED = {
    "CLIP L/14": Expected((10, 1536), loops=1.1e-3),  # resizing is a loop over frames as well
    "HuBERT-large": Expected((16, 2048)),
    # As many sets of prompts as folds. Hidden states are taken to hold the prompts in every layer.
    "EmoVCLIP L/14 extraction": Expected((10, 5, 768), loops=6e-3, flops=8e-3),
    # A set of prompts per text layer. The text tower's layers are one pass; backward computes more than it needs.
    "EmoVCLIP L/14 training": Expected((12, 4, 768), loops=3e-3, flops=1.1e-2),
    "Baichuan-13B": Expected((64, 10240)),
}


@pytest.fixture(scope="module")
def programs():
    programs = all_programs(read_settings(Settings, get_config("mer2024,root=unread")), np.array(jax.devices()[:1]))
    assert len(programs) == len(EXPECTED) + 1
    return {name: program for name in [*EXPECTED, "fusion"] for program in programs if program.name.startswith(name)}


@pytest.mark.parametrize("name", EXPECTED)
def test_first_passes_and_loops_add_up_to_the_program(programs, name):
    program, expected = programs[name], EXPECTED[name]
    assert jax.tree.leaves(jax.eval_shape(program.function, *program.arguments))[0].shape == expected.output
    every_pass = product_flops(program.function, *program.arguments)
    counted = product_flops(program.function, *program.arguments, bodies_once=True)
    for loop in program.loops:
        counted += loop.repeats * product_flops(loop.function, *loop.arguments, bodies_once=True)
    assert counted == pytest.approx(every_pass, rel=expected.loops)
    assert program.flops == pytest.approx(every_pass, rel=expected.flops)


def test_fusion_is_one_step_and_two_batches_of_validation(programs):
    program = programs["fusion"]
    assert jax.tree.leaves(jax.eval_shape(program.function, *program.arguments))[0].shape == (5, 4)
    counted = product_flops(program.function, *program.arguments, bodies_once=True)
    # The trace still holds gradients of the embeddings, a seventh of it, which nothing reads.
    assert 1 <= counted / program.flops < 1.15


@pytest.mark.parametrize("depth, uncounted", [(0, 22), (1, 22), (2, 21), (12, 20), (24, 21)])
def test_uncounted_layers_follow_from_the_depth_of_the_prompts(depth, uncounted):
    tower = nnx.eval_shape(lambda: CLIP(CLIP_L14, rngs=nnx.Rngs(0))).vision
    prompts = jax.ShapeDtypeStruct((depth, 4, 1024), np.float32)
    assert uncounted_layers(tower.layers, prompts) == uncounted

    def run(tower, pixels, prompts):
        return encode_image(tower, pixels, prompts) if depth else tower(pixels)

    arguments = (tower, jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32), prompts if depth else None)
    every_pass, once = (product_flops(run, *arguments, bodies_once=value) for value in (False, True))
    tokens = 257 + 4 * bool(depth)
    layer = 2 * tokens * 12 * 1024**2 + 4 * tokens**2 * 1024
    assert round((every_pass - once) / layer) == uncounted
