import re
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, NamedSharding, PartitionSpec

from mer_jax.models.attention import attention

BATCH, QUERIES, KEYS, HEADS, WIDTH = 2, 5, 7, 4, 8


def inputs(key_heads=HEADS, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    q = rng.normal(size=(BATCH, QUERIES, HEADS, WIDTH))
    k, v = rng.normal(size=(2, BATCH, KEYS, key_heads, WIDTH))
    return [jnp.asarray(x, dtype) for x in (q, k, v)]


def torch_attention(q, k, v, mask=None):
    import torch

    q, k, v = (torch.tensor(np.asarray(x)).transpose(1, 2) for x in (q, k, v))
    mask = None if mask is None else torch.tensor(np.asarray(mask))
    x = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    return {"output": x.transpose(1, 2)}


@pytest.mark.parametrize("key_heads", [HEADS, 2, 1])
def test_matches_torch(key_heads, oracle):
    q, k, v = inputs(key_heads)
    expected = oracle(f"attention/{key_heads}_key_heads", lambda: torch_attention(q, k, v))
    np.testing.assert_allclose(attention(q, k, v), expected["output"], atol=1e-6)


def test_mask_and_bias_match_torch(oracle):
    q, k, v = inputs()
    rng = np.random.default_rng(1)
    mask = rng.random((BATCH, 1, QUERIES, KEYS)) < 0.6
    mask[..., 0] = True
    bias = jnp.asarray(rng.normal(size=(1, HEADS, QUERIES, KEYS)), jnp.float32)
    both = np.where(mask, bias, -np.inf).astype(np.float32)
    expected = oracle("attention/mask_and_bias", lambda: torch_attention(q, k, v, both))
    np.testing.assert_allclose(attention(q, k, v, mask=jnp.asarray(mask), bias=bias), expected["output"], atol=1e-6)


def test_hidden_keys_do_not_matter_and_a_blind_query_stays_finite():
    q, k, v = inputs()
    mask = jnp.arange(KEYS) < 3
    changed = k.at[:, 3:].set(1e4), v.at[:, 3:].set(-1e4)
    np.testing.assert_array_equal(attention(q, k, v, mask=mask), attention(q, *changed, mask=mask))
    assert np.isfinite(attention(q, k, v, mask=jnp.zeros(KEYS, bool))).all()


def test_softmax_is_float32_for_bfloat16_inputs():
    q, k, v = inputs(dtype=jnp.bfloat16)
    out = attention(q, k, v)
    assert out.dtype == jnp.bfloat16
    exact = attention(*(x.astype(jnp.float32) for x in (q, k, v)))
    np.testing.assert_allclose(out.astype(jnp.float32), exact, atol=0.02)
    # The products 256 and 257 are one number in bfloat16.
    q = jnp.ones((1, 1, 1, 2), jnp.bfloat16)
    k = jnp.asarray([[256, 0], [256, 1]], jnp.bfloat16).reshape(1, 2, 1, 2)
    v = jnp.asarray([[0, 0], [1, 1]], jnp.bfloat16).reshape(1, 2, 1, 2)
    np.testing.assert_allclose(float(attention(q, k, v)[0, 0, 0, 0]), 1 / (1 + np.exp(-(2**-0.5))), atol=4e-3)


def test_unknown_implementation():
    with pytest.raises(ValueError, match="flash"):
        attention(*inputs(), impl="flash")


def test_lengths_and_causal_are_masks():
    q, k, v = inputs()
    real = jnp.arange(KEYS) < jnp.asarray([7, 3])[:, None, None, None]
    np.testing.assert_array_equal(attention(q, k, v, lengths=jnp.asarray([7, 3])), attention(q, k, v, mask=real))
    past = jnp.tril(jnp.ones((QUERIES, KEYS), bool))
    np.testing.assert_array_equal(attention(q, k, v, causal=True), attention(q, k, v, mask=past))
    both = attention(q, k, v, lengths=jnp.asarray([7, 3]), causal=True)
    np.testing.assert_array_equal(both, attention(q, k, v, mask=past & real))
    some = jnp.asarray([True, False] * 3 + [True])
    np.testing.assert_array_equal(
        attention(q, k, v, mask=some, lengths=jnp.asarray([7, 3])), attention(q, k, v, mask=some & real)
    )


@pytest.fixture
def cudnn(monkeypatch):
    """As if cuDNN were installed: programs are traced and lowered for it, none runs."""
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91400)


def shapes(queries=64, keys=64, key_heads=HEADS, width=64, dtype=jnp.bfloat16, device=None):
    """Of q, k and v, on one device of this platform and name."""
    sharding = None
    if device is not None:
        platform, name = device
        mesh = AbstractMesh((1,), ("data",), abstract_device=AbstractDevice(name, None, platform))
        sharding = NamedSharding(mesh, PartitionSpec())
    return [
        jax.ShapeDtypeStruct((BATCH, tokens, heads, width), dtype, sharding=sharding)
        for tokens, heads in ((queries, HEADS), (keys, key_heads), (keys, key_heads))
    ]


def is_fused(function, *arrays):
    fresh = jax.jit(lambda *arrays: function(*arrays))  # nothing that was traced for another device
    return "dot_product_attention_fwd" in str(fresh.trace(*arrays).jaxpr)


GPUS = {
    ("gpu", "NVIDIA H100 80GB HBM3"): True,
    ("gpu", "NVIDIA H100 PCIe"): True,
    ("gpu", "NVIDIA H200"): True,
    ("gpu", "NVIDIA GH200 480GB"): True,
    ("gpu", "NVIDIA B200"): True,
    ("gpu", "NVIDIA GB200"): True,
    ("gpu", "NVIDIA RTX PRO 6000 Blackwell Server Edition"): True,
    ("gpu", "NVIDIA A100-SXM4-80GB"): False,
    ("gpu", "NVIDIA L40S"): False,
    ("gpu", "NVIDIA GeForce RTX 4090"): False,
    ("gpu", "AMD Instinct MI300X"): False,
    ("tpu", "TPU v6 lite"): False,
    ("cpu", "cpu"): False,
    None: False,
}


@pytest.mark.parametrize("device", GPUS)
def test_the_device_chooses(device, cudnn):
    arrays = shapes(device=device)
    assert is_fused(attention, *arrays) == GPUS[device]
    assert not is_fused(partial(attention, impl="xla"), *arrays)
    assert is_fused(partial(attention, impl="cudnn"), *arrays)
    # What is computed from arrays is where they are, under all that the models put around attention.
    assert is_fused(jax.checkpoint(lambda q, k, v: attention(q * 2, k, v)), *arrays) == GPUS[device]
    assert (
        is_fused(lambda q, k, v: jax.lax.scan(lambda x, _: (attention(x, k, v), None), q, length=2), *arrays)
        == (GPUS[device])
    )


@pytest.mark.parametrize(("capability", "expected"), [("9.0", True), ("12.0", True), ("8.9", False), ("10.3", True)])
def test_a_device_that_is_here_is_asked(capability, expected, cudnn, monkeypatch):
    gpu = SimpleNamespace(platform="gpu", device_kind="NVIDIA GeForce", compute_capability=capability)
    monkeypatch.setattr(jax, "local_devices", lambda backend=None: [gpu])
    assert is_fused(attention, *shapes()) == expected  # the default device
    assert is_fused(attention, *shapes(device=("gpu", "NVIDIA GeForce"))) == expected
    assert not is_fused(attention, *shapes(device=("cpu", "cpu")))


@pytest.mark.parametrize(
    ("arrays", "extra", "expected"),
    [
        ({}, {}, True),
        ({"dtype": jnp.float16}, {}, True),
        ({"dtype": jnp.float32}, {}, False),
        ({"width": 128}, {}, True),
        ({"width": 136}, {}, False),
        ({"width": 8}, {}, True),
        ({"width": 12}, {}, False),
        ({"key_heads": 2}, {}, True),
        ({"queries": 257, "keys": 261}, {}, True),
        ({"queries": 1}, {}, False),
        ({}, {"lengths": jax.ShapeDtypeStruct((BATCH,), jnp.int32)}, True),
        ({}, {"mask": jax.ShapeDtypeStruct((64, 64), bool)}, False),
        ({}, {"bias": jax.ShapeDtypeStruct((1, HEADS, 64, 64), jnp.float32)}, True),
        ({}, {"bias": jax.ShapeDtypeStruct((1, HEADS, 1, 64), jnp.float32)}, False),
        ({"queries": 63}, {"bias": jax.ShapeDtypeStruct((1, HEADS, 63, 64), jnp.float32)}, False),
        ({"keys": 63}, {"bias": jax.ShapeDtypeStruct((1, HEADS, 64, 63), jnp.float32)}, False),
    ],
)
def test_what_cudnn_does_not_take_falls_back(arrays, extra, expected, cudnn):
    q, k, v = shapes(**arrays)

    def run(q, k, v, extra):
        return attention(q, k, v, impl="cudnn", **extra)

    assert is_fused(run, q, k, v, extra) == expected
    loss = jax.grad(lambda q, k, v: jnp.square(run(q, k, v, {})).sum().astype(jnp.float32), argnums=(0, 1, 2))
    assert ("dot_product_attention_bwd" in str(jax.jit(loss).trace(q, k, v).jaxpr)) == (expected or bool(extra))


def lowered(function, *arrays):
    return jax.jit(function).trace(*arrays).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize(("queries", "keys"), [(96, 80), (97, 81)])
@pytest.mark.parametrize("extra", [{}, {"causal": True}, {"lengths": jnp.asarray([5, 80])}])
def test_the_program_for_a_gpu_keeps_no_logits(queries, keys, extra, cudnn):
    """Forward, and backward with recomputation, for prompts side by side as they are trained."""

    def run(q, k, v):
        return attention(q, k, v, impl="cudnn", **extra)

    def loss(q, k, v):
        return jnp.square(jax.checkpoint(run)(q, k, v)).sum().astype(jnp.float32)

    arrays = shapes(queries, keys)
    logits = re.compile(r"9[678]x8[012]x")
    program = lowered(run, *arrays)
    assert program.count("@__cudnn$fmhaSoftmax(") == 1
    assert not logits.search(program)
    sets = [jax.ShapeDtypeStruct((3, *x.shape), x.dtype) for x in arrays]
    program = lowered(jax.vmap(jax.grad(loss, argnums=(0, 1, 2))), *sets)
    assert program.count("@__cudnn$fmhaSoftmaxBackward(") == 1
    assert not logits.search(program)
    assert logits.search(lowered(lambda q, k, v: attention(q, k, v, impl="xla", **extra), *arrays))


@pytest.fixture
def twin(monkeypatch):
    """JAX's own XLA kernel in the place of cuDNN's; it takes the same arguments. Returns the calls."""
    calls = []
    real = jax.nn.dot_product_attention

    def call(*arrays, implementation, **options):
        calls.append(options)
        assert implementation == "cudnn"
        return real(*arrays, implementation="xla", **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", call)
    return calls


@pytest.mark.parametrize("key_heads", [HEADS, 2, 1])
@pytest.mark.parametrize("keys", [8, 7])
def test_the_kernel_gets_what_xla_would_compute(key_heads, keys, twin):
    q, k, v = (x[:, : keys if i else QUERIES] for i, x in enumerate(inputs(key_heads, jnp.bfloat16)))
    k, v = (jnp.pad(x, ((0, 0), (0, keys - x.shape[1]), (0, 0), (0, 0)), constant_values=3) for x in (k, v))
    for extra in ({}, {"lengths": jnp.asarray([2, keys])}, {"causal": True}):
        got = attention(q, k, v, impl="cudnn", **extra).astype(jnp.float32)
        np.testing.assert_allclose(got, attention(q, k, v, impl="xla", **extra).astype(jnp.float32), atol=0.02)
    assert len(twin) == 3


def test_the_kernels_lengths_hide_exactly_the_padded_keys(twin):
    q, k, v = inputs(dtype=jnp.bfloat16)
    lengths = jnp.asarray([3, 6])
    hidden = (jnp.arange(KEYS) >= lengths[:, None])[..., None, None]
    run = partial(attention, impl="cudnn", lengths=lengths)
    out = run(q, k, v)
    np.testing.assert_array_equal(out, run(q, jnp.where(hidden, 100, k), jnp.where(hidden, -100, v)))
    last = jax.nn.one_hot(lengths - 1, KEYS, dtype=bool)[..., None, None]  # of those seen
    assert (out != run(q, k, jnp.where(last, 100, v))).all()
    assert np.isfinite(run(q, k, v, lengths=jnp.zeros(BATCH, int)).astype(jnp.float32)).all()


@pytest.mark.parametrize("bias_heads", [1, HEADS])
def test_the_kernels_bias_is_added(bias_heads, twin):
    rng = np.random.default_rng(2)
    q, k, v = (jnp.asarray(rng.normal(size=(BATCH, 6, HEADS, WIDTH)), jnp.bfloat16) for _ in range(3))
    bias = jnp.asarray(rng.normal(size=(1, bias_heads, 6, 6)), jnp.float32)
    got, expected = (attention(q, k, v, bias=bias, causal=True, impl=impl) for impl in ("cudnn", "xla"))
    np.testing.assert_allclose(got.astype(jnp.float32), expected.astype(jnp.float32), atol=0.02)
    assert len(twin) == 1


@pytest.mark.parametrize("keys", [6, 7])
def test_gradients_through_the_kernel(keys, twin):
    q, k, v = (x[:, : keys if i else QUERIES] for i, x in enumerate(inputs(2, jnp.bfloat16)))

    def gradients(impl):
        def loss(q, k, v):
            return jnp.square(attention(q, k, v, impl=impl).astype(jnp.float32)).sum()

        return jax.jit(jax.grad(jax.checkpoint(loss), argnums=(0, 1, 2)))(q, k, v)

    for got, expected in zip(gradients("cudnn"), gradients("xla"), strict=True):
        np.testing.assert_allclose(got.astype(jnp.float32), expected.astype(jnp.float32), atol=0.05)
    assert twin


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN needs an NVIDIA GPU")
@pytest.mark.parametrize("tokens", [64, 257])
@pytest.mark.parametrize("extra", [{}, {"causal": True}, {"lengths": jnp.asarray([5, 64])}])
def test_cudnn_matches_xla(tokens, extra):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(2, tokens, 4, 64)), jnp.bfloat16) for _ in range(3))

    def both(impl):
        def loss(q, k, v):
            out = attention(q, k, v, impl=impl, **extra).astype(jnp.float32)
            return jnp.square(out).sum(), out

        gradients, out = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(q, k, v)
        return [out, *(x.astype(jnp.float32) for x in gradients)]

    for got, expected in zip(both("cudnn"), both("xla"), strict=True):
        np.testing.assert_allclose(got, expected, atol=0.05)
