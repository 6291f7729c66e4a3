"""Which kernels a listing for a GPU holds."""

from launch.gpu_kernels import bytes_moved, kernels
from launch.listing import Listing

LISTING = """
%body (p: (s32[], bf16[8])) -> (s32[], bf16[8]) {
  %p = (s32[], bf16[8]) parameter(0)
  %x.1 = bf16[8]{0} get-tuple-element(%p), index=1
  %a.1 = (bf16[8]{0}, u8[0]{0}) custom-call(%x.1, %x.1, %x.1), custom_call_target="__cudnn$fmhaSoftmax"
  %b.1 = (bf16[8]{0}, u8[0]{0}) custom-call(%x.1), custom_call_target="__cudnn$fmhaScaleBiasSoftmaxBackward"
  %c.1 = bf16[8]{0} custom-call(%x.1), custom_call_target="__cublas$lt$matmul"
  %d.1 = bf16[8]{0} fusion(%x.1), kind=kCustom, calls=%f, backend_config={"kind":"__triton_nested_gemm_fusion"}
  %e.1 = bf16[8]{0} fusion(%x.1), kind=kCustom, calls=%f, backend_config={"kind":"__triton"}
  %g.1 = bf16[8]{0} fusion(%x.1), kind=kLoop, calls=%f
  %h.1 = bf16[8]{0} fusion(%x.1), calls=%f, backend_config={CUSTOM"memcpy"}}
  ROOT %t.1 = (s32[], bf16[8]) tuple(%p, %g.1)
}

%condition (q: (s32[], bf16[8])) -> pred[] {
  ROOT %q = (s32[], bf16[8]) parameter(0)
}

%f (y: bf16[8]) -> bf16[8] {
  %y = bf16[8]{0} parameter(0)
  ROOT %z = bf16[8]{0} add(%y, %y)
}

ENTRY %main (x: bf16[8]) -> bf16[8] {
  %x = bf16[8]{0} parameter(0)
  %conv = bf16[8]{0} custom-call(%x), custom_call_target="__cudnn$convForward"
  %loop = (s32[], bf16[8]) while(%x), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"23"}}
  %s = bf16[16]{0} all-gather-start(%x), dimensions={0}
  ROOT %d = bf16[16]{0} all-gather-done(%s)
}
""".replace("CUSTOM", '"kind":"__custom_fusion","custom_fusion_config":{"name":')


def test_kernels_count_as_often_as_their_loop_runs():
    assert dict(kernels(Listing.of(LISTING))) == {
        "cuDNN attention": 23,
        "cuDNN attention, backward": 23,
        "cuBLASLt": 23,
        "Triton product": 23,
        "Triton fusion": 23,
        "fusion": 23,
        "memcpy": 23,
        "cuDNN convolution": 1,
        "all-gather-start": 1,
    }


def test_bytes_moved():
    # 16 bytes in and 16 out; attention has three inputs, and what is gathered is of 32.
    assert bytes_moved(Listing.of(LISTING)) == 32 + 23 * (64 + 6 * 32) + 48
