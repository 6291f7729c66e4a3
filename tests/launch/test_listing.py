"""Reading XLA's listing: which operations its estimated cycles go to."""

from launch.listing import costliest, kinds_of

LISTING = """
%body {
  %copy.7 = bf16[8,257,1024]{2,0,1} copy(%bitcast.10), metadata={op_name="jit(f)/reshape"}, backend_config={"estimated_cycles":"30"}
  %fusion.6 = bf16[8,16,257,64]{2,3,1,0} fusion(%a), metadata={op_name="jit(f)/BNTS,BNSH->BNTH/dot_general"}, backend_config={"estimated_cycles":"500"}
  %fusion.9 = (f32[8,16,257]{2,1,0}, f32[8,16,257,257]{2,3,1,0}) fusion(%b), metadata={op_name="jit(f)/sub"}, backend_config={"estimated_cycles":"40"}
  %add_fusion = bf16[8,257,1024]{2,1,0} fusion(%c), metadata={op_name="jit(f)/dot_general"}, backend_config={"estimated_cycles":"900"}
  %fusion.22 = f32[8,257]{1,0} fusion(%d), metadata={op_name="jit(f)/reduce_sum"}, backend_config={"estimated_cycles":"20"}
  %no_estimate = f32[8]{0} add(%e, %e), metadata={op_name="jit(f)/add"}
}
"""  # noqa: E501


def test_costliest_comes_first_and_operations_without_estimate_are_left_out():
    operations = costliest(LISTING)
    assert [cycles for cycles, _ in operations] == [900, 500, 40, 30, 20]
    assert operations[0][1] == "bf16[8,257,1024]{2,1,0} add_fusion jit(f)/dot_general"


def test_cycles_by_kind():
    assert kinds_of(costliest(LISTING)) == {
        "copies": 30,
        "attention": 540,
        "matrix products": 900,
        "norms and other sums": 20,
        "other": 0,
    }
