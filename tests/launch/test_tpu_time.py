"""The time of a compiled program on a TPU, against sums by hand."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from launch.devices import Slice, Tpu
from launch.listing import Listing
from launch.tpu_time import Estimate, estimate

# 1000 cycles, 1000 FLOPs and 1000 bytes each take a microsecond; a link takes in 100 bytes in one, and there are two.
CHIP = Tpu(peak=1e9, bandwidth=1e9, memory=1e9, link=1e8, accelerator="v9", clock=1e9)
SLICE = Slice("v9:2x2", CHIP, np.arange(4), (2, 2))


def time_of(*lines: str, more: str = "", bundles: Mapping[str, int] | None = None, cores: int = 1) -> Estimate:
    body = "\n".join(f"  {line}" for line in lines)
    listing = Listing.of(f"{more}\nENTRY %main (x: f32[250]) -> f32[250] {{\n{body}\n}}")
    return estimate(listing, replace(SLICE, chip=replace(CHIP, cores=cores)), bundles=bundles or {})


def cycles(name: str, count: int, origin: str = "") -> str:
    config = f'backend_config={{"window_config":{{"estimated_cycles":"{count}"}}}}'
    return f'%{name} = f32[250]{{0}} fusion(%x), kind=kLoop, calls=%f, metadata={{op_name="{origin}"}}, {config}'


X = "%x = f32[250]{0} parameter(0)"


def test_estimated_operations_follow_each_other():
    time = time_of(X, cycles("a", 3000, "jit(f)/dot_general"), cycles("b", 500))
    assert time.seconds == pytest.approx(3.5e-6)
    assert time.kinds()["matrix products"] == pytest.approx(3e-6)
    assert not time.without and not time.collectives


def test_a_loop_takes_its_passes():
    more = f"""
%body (p: (s32[], f32[250])) -> (s32[], f32[250]) {{
  %p = (s32[], f32[250]) parameter(0)
  {cycles("a", 700).replace("%x", "%p")}
  ROOT %t = (s32[], f32[250]) tuple(%p, %a)
}}
%condition (q: (s32[], f32[250])) -> pred[] {{
  %q = (s32[], f32[250]) parameter(0)
  ROOT %go = pred[] custom-call(%q), custom_call_target="AllocateBuffer"
}}
"""
    passes = 'backend_config={"known_trip_count":{"n":"4"}}'
    time = time_of(X, f"%l = (s32[], f32[250]) while(%x), condition=%condition, body=%body, {passes}", more=more)
    assert time.seconds == pytest.approx(4 * 0.7e-6)
    assert sum(time.operations.values()) == pytest.approx(time.seconds)


@pytest.mark.parametrize(
    "line, moved",
    [
        ("%c = f32[1000]{0} all-gather(%x), dimensions={0}", 3000),  # all but what it has
        ("%c = f32[50]{0} reduce-scatter(%x), to_apply=%add", 800),
        ("%c = f32[250]{0} all-reduce(%x), to_apply=%add", 2000),  # to sum, and to hand out
        ("%c = f32[250]{0} all-to-all(%x), dimensions={0}", 1000),
        ("%c = f32[250]{0} collective-permute(%x), source_target_pairs={{0,1}}", 1000),
    ],
)
def test_collectives_take_what_comes_in_over_the_links(line, moved):
    time = time_of(X, line)
    assert time.seconds == time.on_links == pytest.approx(moved / 2e8)
    assert sum(time.collectives.values()) == 1
    assert time.kinds()["waiting for collectives"] == time.seconds


def test_what_is_started_goes_on_behind_the_operations_until_it_is_waited_for():
    start = "%s = (f32[250]{0}, f32[1000]{0}) all-gather-start(%x), dimensions={0}"  # 15 us
    done = "%d = f32[1000]{0} all-gather-done(%s)"
    hidden = time_of(X, start, cycles("a", 20_000), done)
    assert hidden.seconds == pytest.approx(20e-6) and hidden.on_links == pytest.approx(15e-6)
    waited = time_of(X, start, cycles("a", 6_000), done)
    assert waited.seconds == pytest.approx(15e-6)
    assert waited.kinds()["waiting for collectives"] == pytest.approx(9e-6)
    # One after the other over the same links; a copy uses the memory instead.
    second = [line.replace("%s", "%s2").replace("%d", "%d2") for line in (start, done)]
    assert time_of(X, start, second[0], done, second[1]).seconds == pytest.approx(30e-6)
    copy = "%s2 = (f32[1000]{0}, f32[1000]{0:S(1)}, u32[]) copy-start(%x)", "%d2 = f32[1000]{0} copy-done(%s2)"
    both = time_of(X, start, copy[0], done, copy[1])
    assert both.seconds == pytest.approx(15e-6)
    assert dict(both.without) == {"copy-start": 1}


def test_a_collective_in_an_asynchronous_operation_is_one_as_well():
    more = """
%wrapped (p: f32[250]) -> f32[250] {
  %p = f32[250]{0} parameter(0)
  ROOT %all = f32[250]{0} all-to-all(%p), dimensions={0}
}
"""
    start = "%s = ((f32[250]{0}), f32[250]{0}, u32[]) async-start(%x), calls=%wrapped"
    time = time_of(X, start, cycles("a", 1_000), "%all-to-all-done = f32[250]{0} async-done(%s)", more=more)
    assert time.seconds == pytest.approx(5e-6)
    assert time.kinds()["waiting for collectives"] == pytest.approx(4e-6)
    assert dict(time.collectives) == {"all-to-all": 1}


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("attention_forward_64x64x128", 1),
        ("attention_forward_48x64x128", 2),
        ("transpose_jvp_attention_backward_64x64x128__", 1),
    ],
)
@pytest.mark.parametrize("cores", [1, 2])
def test_a_kernel_takes_its_bundles_once_a_step(cores, name, blocks):
    """Of 3 rows, half of the width and a block of queries at a time; XLA would count nothing."""
    q = "%q = bf16[3,64,256]{2,1,0} parameter(1)"
    call = f'%{name}.7 = bf16[3,64,256] custom-call(%q, %q, %q), custom_call_target="tpu_custom_call"'
    time = time_of(X, q, call, bundles={name: 1_000_000}, cores=cores)
    assert time.seconds == pytest.approx(3 * 2 * blocks * 1_000_000 / 1e9 / cores)
    assert not time.without
    moved = 4 * 3 * 64 * 256 * 2 / 1e9  # seconds
    assert time_of(X, q, call, bundles={name: 10}).seconds == pytest.approx(moved)  # its bytes
    unknown = time_of(X, q, call)
    assert unknown.seconds == pytest.approx(moved) and dict(unknown.without) == {"tpu_custom_call": 1}


def test_the_slowest_branch_is_taken():
    more = "\n".join(
        f"%{name} (p{name}: f32[250]) -> f32[250] {{\n  {cycles(f'a{name}', count)}\n}}"
        for name, count in (("one", 100), ("two", 900))
    )
    assert time_of(X, "%c = f32[250]{0} conditional(%x), branch_computations={%one, %two}", more=more).seconds == 9e-7
