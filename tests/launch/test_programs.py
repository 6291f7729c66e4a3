"""The programs of the ahead-of-time check: each gives what its run would, and knows how much it computes."""

from typing import NamedTuple

import jax
import numpy as np
import pytest

from benchmarks import work
from configs.semi import get_config
from launch.programs import all_programs
from mer_jax.fusion.trainer import VALIDATION_BATCH
from mer_jax.runtime.settings import read_settings
from mer_jax.settings import Settings
from tests.product_flops import product_flops


class Expected(NamedTuple):
    """What is known of a program."""

    output: tuple[int, ...]  # shape of its first output
    attentions: int  # over whole sequences: layers, but for a CLIP tower's last, times passes, all frames in one
    error: float = 1e-12  # of the count by hand, relative; a layer more or less would be 0.04, a frame 0.06


EXPECTED = {
    "CLIP L/14 extraction": Expected((20, 1536), 23),
    # The interpolated positions, which are the same for all images, are not counted.
    "DINOv2-large extraction": Expected((20, 2048), 23, 2e-3),
    # The head's one query, the same for all images, is projected for each.
    "SigLIP 2 so400m extraction": Expected((7, 2304), 27, 1e-5),
    "HuBERT-large extraction": Expected((24, 2048), 24),
    "WavLM-large extraction": Expected((24, 2048), 24),
    "Whisper-large extraction": Expected((3, 2560), 32),
    "MacBERT-large extraction": Expected((64, 2048), 24),
    # As many sets of prompts as folds. Hidden states are taken to hold the prompts in every layer.
    "EmoVCLIP L/14 extraction": Expected((10, 5, 768), 5 * 23, 8e-3),
    # A set of prompts per text layer. Backward computes more than needed.
    "EmoVCLIP L/14 training step": Expected((12, 4, 768), 16 * 23, 1.1e-2),
    "Baichuan-13B": Expected((64, 10240), 40),
}


def settings(**text: int) -> Settings:
    config = get_config("mer2024,root=unread")
    config.encoders.text.update(text)
    return read_settings(Settings, config)


@pytest.fixture(scope="module")
def programs():
    programs = all_programs(settings(), np.array(jax.devices()[:1]), memory=95e9)
    assert set(programs) == {*EXPECTED, "fusion"}
    return {title: make() for title, make in programs.items()}


@pytest.mark.parametrize("title", EXPECTED)
def test_outputs_attentions_and_flops(programs, title):
    program, expected = programs[title], EXPECTED[title]
    assert program.name.startswith(title) and program.passes == 1
    assert jax.tree.leaves(jax.eval_shape(program.function, *program.arguments))[0].shape == expected.output
    assert program.attentions == expected.attentions
    assert program.flops == pytest.approx(product_flops(program.function, *program.arguments), rel=expected.error)


def test_fusion_is_the_training_of_all_folds(programs):
    program = programs["fusion"]
    assert jax.tree.leaves(jax.eval_shape(program.function, *program.arguments))[0].shape == (5, 4)
    assert program.passes == np.ceil((4024 + 600) / 64)  # four of five folds, room for pseudo-labelled clips, a batch
    # In the trace, whose steps count once in an epoch, is still a gradient of the embeddings, which nothing reads.
    once = product_flops(program.function, *program.arguments)
    epochs, step = 30, 64 * work.fusion_step_flops(work.DIMS)
    validation = 4 * VALIDATION_BATCH * work.fusion_flops(work.DIMS)
    assert 1 <= once / (5 * (epochs * (step + validation) + validation)) < 1.15
    assert program.flops == 5 * (epochs * (73 * step + validation) + validation)
    assert program.clips == 5 * epochs * 73 * 64


@pytest.mark.parametrize(
    "memory, configured, shared", [(95e9, 1, 1), (32e9, 1, 2), (16e9, 1, 4), (16e9, 8, 8), (8e9, 1, 8), (1e9, 1, 8)]
)
def test_as_few_devices_share_baichuan_as_have_the_room(monkeypatch, memory, configured, shared):
    monkeypatch.setattr("launch.programs.Mesh", lambda devices, axes: jax.sharding.AbstractMesh(devices.shape, axes))
    config = settings(model_parallel=configured)
    program = all_programs(config, np.arange(8), memory)["Baichuan-13B"]()
    assert f"model_parallel={shared}" in program.name
    assert program.clips == 64 * 8 // shared
    assert program.flops == pytest.approx(program.clips * work.decoder_flops(work.BAICHUAN_13B, 128) / 8)
