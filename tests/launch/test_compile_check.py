"""The table of the ahead-of-time check, with this machine's CPU in the place of an accelerator."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch import compile_check
from launch.compile_check import check, check_all, on_gpu
from launch.devices import Gpu, Slice, Tpu
from launch.listing import Listing
from launch.programs import Program
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.settings import Settings

DEVICES = np.array(jax.devices()[:1])
TPU = Slice("v9:1x1", Tpu(1e9, 1e7, 1e9, 1e9, "v9", 1e9), DEVICES, (1, 1))
GPU = Slice("z100", Gpu(1e9, 1e9, 1e9, 1e9, fused_attention=True), DEVICES, (1,))
SQUARE = jax.ShapeDtypeStruct((64, 64), jnp.float32)
PRODUCT = Program("product", lambda x: x @ x, (SQUARE,), 2 * 64**3, 1, "the.knob")


def test_on_a_tpu():
    row, lines, wrong = check(PRODUCT, TPU, most=3)
    assert len(row) == len(compile_check.ON_TPU) and not wrong
    assert row[:2] == ["product", "yes"]
    assert float(row[4]) == pytest.approx(2 * 64**3 / 1e9 * 1e3, abs=0.01)
    assert lines[0].startswith("    time: ") and "XLA" in lines[-1]


def test_fused_attention_is_missing_only_where_it_should_be_there():
    program = replace(PRODUCT, attentions=3)
    row, _, wrong = check(program, GPU, most=3)
    assert len(row) == len(compile_check.ON_GPU)
    assert wrong == "0 of 3 attentions are fused"
    assert not check(PRODUCT, GPU, most=3)[2]
    older = replace(GPU, chip=replace(GPU.chip, fused_attention=False))
    assert not check(program, older, most=3)[2]


def test_every_attention_has_to_be_fused():
    call = '  ROOT %a = f32[8]{0} custom-call(), custom_call_target="__cudnn$fmhaSoftmax"'
    listing = Listing.of(f"ENTRY %main () -> f32[8] {{\n{call}\n}}")
    found = [on_gpu(replace(PRODUCT, attentions=count), listing, GPU.chip)[1] for count in (1, 2)]
    assert found == ["", "1 of 2 attentions are fused"]


def test_a_program_that_does_not_fit_names_its_knob():
    for where in (TPU, GPU):
        row, _, wrong = check(PRODUCT, replace(where, chip=replace(where.chip, memory=4 * 64**2)), most=3)
        assert row[1] == "NO: lower the.knob" and wrong == "does not fit"


@pytest.fixture
def command(monkeypatch):
    """Runs the command on programs and slices that take no time."""
    programs = {"product": lambda: PRODUCT, "attention": lambda: replace(PRODUCT, name="attention", attentions=1)}
    monkeypatch.setattr(compile_check, "open_slice", {"v9:1x1": TPU, "z100": GPU}.__getitem__)
    monkeypatch.setattr(compile_check, "all_programs", lambda *_: programs)

    return lambda slices, parts: check_all(Settings(), slices, parts, most=3)


def test_all_that_is_wrong_stands_in_one_line_at_the_end(command, capsys):
    with pytest.raises(DataError, match=r"^attention on z100: 0 of 1 attentions are fused$"):
        command(["v9:1x1", "z100"], [])
    printed = capsys.readouterr().out
    assert printed.count("\nproduct | yes") == printed.count("\nattention | yes") == 2
    assert "of peak" in printed and "kernels" in printed


def test_chosen_programs_alone(command, capsys):
    command(["z100"], ["prod"])
    assert "attention |" not in capsys.readouterr().out
    with pytest.raises(UsageError, match="--program=none: expected a part of one of product, attention"):
        command(["z100"], ["none"])


class Lowered:
    """Compiles only without Triton's products."""

    def __init__(self, message):
        self.message = message

    def compile(self, compiler_options):
        if compiler_options.get("xla_gpu_enable_triton_gemm", True):
            raise jax.errors.JaxRuntimeError(self.message)
        return "executable"


def test_products_whose_first_tiles_do_not_work_are_left_to_cublas():
    assert compile_check.compile_lowered(Lowered("INTERNAL: Couldn't find output tile sizes that ...")) == "executable"
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        compile_check.compile_lowered(Lowered("RESOURCE_EXHAUSTED: ..."))
