"""Reading a compiled program: which operations run, how often, and what they move."""

from collections import Counter

import jax
import jax.numpy as jnp
import pytest

from launch.listing import Listing, sides_of, size_of

# As for a TPU, which does not note how often a loop runs; a loop in a loop, and one whose counter starts at 2.
NESTED = """HloModule jit_f, is_scheduled=true

%inner_body (p.1: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p.1 = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%p.1), index=0
  %x.1 = f32[8]{0:T(128)} get-tuple-element(%p.1), index=1
  %sum.1 = f32[8]{0:T(128)} fusion(%x.1), kind=kLoop, calls=%fused
  ROOT %t.1 = (s32[]{:T(128)}, f32[8]{0:T(128)}) tuple(%i.1, %sum.1)
}

%inner_condition (p.2: (s32[], f32[8])) -> pred[] {
  %p.2 = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %end.2 = s32[]{:T(128)} constant(12)
  %i.2 = s32[]{:T(128)} get-tuple-element(%p.2), index=0
  ROOT %less.2 = pred[]{:T(512)} compare(%i.2, %end.2), direction=LT
}

%outer_body (p.3: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p.3 = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %start.3 = s32[]{:T(128)} constant(2)
  %copied.3 = s32[]{:T(128)} copy(%start.3)
  %x.3 = f32[8]{0:T(128)} get-tuple-element(%p.3), index=1
  %t.3 = (s32[]{:T(128)}, /*index=1*/f32[8]{0:T(128)}) tuple(%copied.3, %x.3)
  ROOT %inner = (s32[]{:T(128)}, f32[8]{0:T(128)}) while(%t.3), condition=%inner_condition, body=%inner_body
}

%fused (a.4: f32[8]) -> f32[8] {
  %a.4 = f32[8]{0} parameter(0)
  ROOT %add.4 = f32[8]{0} add(%a.4, %a.4)
}

%outer_condition (p.5: (s32[], f32[8])) -> pred[] {
  %p.5 = (s32[], f32[8]) parameter(0)
  ROOT %go = pred[] custom-call(%p.5), custom_call_target="who_knows"
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0:T(128)} parameter(0), metadata={op_name="x (of f(x))"}
  %zero = s32[]{:T(128)} constant(0)
  %t = (s32[]{:T(128)}, f32[8]{0:T(128)}) tuple(%zero, %x)
  %outer = (s32[], f32[8]) while(%t), condition=%outer_condition, body=%outer_body, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %y = f32[8]{0:T(128)} get-tuple-element(%outer), index=1
}
"""  # noqa: E501


def runs(listing: Listing, **options: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    for operation, times in listing.executions(**options):
        counts[operation.opcode] += times
    return counts


def test_operations_in_loops_count_as_often_as_the_loops_run():
    listing = Listing.of(NESTED)
    assert listing.entry == "main"
    assert [listing.trips(listing.by_name[name]) for name in ("outer", "inner")] == [3, 10]
    counts = runs(listing)
    assert (counts["while"], counts["fusion"], counts["compare"], counts["add"]) == (1 + 3, 3 * 10, 3 * 10, 0)


def test_a_loop_of_unknown_length_runs_as_often_as_told():
    listing = Listing.of(NESTED.replace(', backend_config={"known_trip_count":{"n":"3"}}', ""))
    assert listing.trips(listing.by_name["outer"]) is None
    assert runs(listing)["fusion"] == 10
    assert runs(listing, passes=7)["fusion"] == 70


def test_a_compiled_scan():
    def step(x, w):
        return jnp.tanh(x @ w), None

    shapes = (jax.ShapeDtypeStruct((4, 8), jnp.float32), jax.ShapeDtypeStruct((5, 8, 8), jnp.float32))
    text = jax.jit(lambda x, w: jax.lax.scan(step, x, w)[0]).lower(*shapes).compile().as_text()
    listing = Listing.of(text)
    (loop,) = (operation for operation, _ in listing.executions() if operation.opcode == "while")
    assert listing.trips(loop) == 5


def test_where_an_operation_is_from_and_what_it_calls():
    line = (
        '  %kernel.1 = (bf16[2,4]{1,0}, u8[0]{0}) custom-call(%q, /*index=1*/%k), custom_call_target="__cudnn$fmha", '
        'metadata={op_name="jit(f)/attention"}'
    )
    listing = Listing.of(f"ENTRY %main () -> f32[] {{\n{line}\n}}")
    operation = listing.by_name["kernel.1"]
    assert (operation.target, operation.origin, operation.operands) == ("__cudnn$fmha", "jit(f)/attention", ("q", "k"))


@pytest.mark.parametrize(
    "shape, size, sides",
    [
        ("bf16[8,257,1024]{2,1,0:T(8,128)(2,1)S(1)}", 2 * 8 * 257 * 1024, [8, 257, 1024]),
        ("(f32[10]{0}, pred[3,3]{1,0}, s32[])", 40 + 9 + 4, [10]),
        ("f8e4m3fn[16]{0}", 16, [16]),
        ("s4[16]{0}", 8, [16]),
        ("token[]", 0, []),
    ],
)
def test_sizes(shape, size, sides):
    assert size_of(shape) == size
    assert sides_of(shape) == sides


SLICING = """
%fused (stack.1: f32[24,8], i.1: s32[], whole.1: f32[8], into.1: f32[24,8]) -> (f32[24,8], f32[8]) {
  %stack.1 = f32[24,8]{1,0} parameter(0)
  %i.1 = s32[] parameter(1)
  %whole.1 = f32[8]{0} parameter(2)
  %into.1 = f32[24,8]{1,0} parameter(3)
  %row.1 = f32[1,8]{1,0} dynamic-slice(%stack.1, %i.1), dynamic_slice_sizes={1,8}
  %flat.1 = f32[8]{0} bitcast(%row.1)
  %sum.1 = f32[8]{0} add(%flat.1, %whole.1)
  %back.1 = f32[1,8]{1,0} bitcast(%sum.1)
  %updated.1 = f32[24,8]{1,0} dynamic-update-slice(%into.1, %back.1, %i.1)
  ROOT %both.1 = (f32[24,8]{1,0}, f32[8]{0}) tuple(%updated.1, %sum.1)
}

ENTRY %main (stack: f32[24,8], i: s32[], whole: f32[8], into: f32[24,8]) -> f32[8] {
  %stack = f32[24,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %whole = f32[8]{0} parameter(2)
  %into = f32[24,8]{1,0} parameter(3)
  %row = f32[1,8]{1,0} dynamic-slice(%stack, %i), dynamic_slice_sizes={1,8}
  %sum = f32[8]{0} add(%whole, %whole)
  %put = f32[24,8]{1,0} dynamic-update-slice(%into, %row, %i)
  %step = (f32[24,8]{1,0}, f32[8]{0}) fusion(%stack, %i, %whole, %into), kind=kLoop, calls=%fused
  ROOT %y = f32[8]{0} get-tuple-element(%step), index=1
}
"""


def test_of_what_is_sliced_or_updated_in_place_the_slice_moves():
    listing = Listing.of(SLICING)
    moved = {name: listing.traffic(listing.by_name[name]) for name in ("row", "sum", "put", "step", "y")}
    # The fusion reads a row, the index and an array, and writes a row and an array.
    assert moved == {"row": 64, "sum": 96, "put": 64, "step": 32 + 4 + 32 + 32 + 32, "y": 0}
