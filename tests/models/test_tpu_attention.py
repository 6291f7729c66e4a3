"""A TPU's attention, by XLA's operations on this machine, against the one that is everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, NamedSharding, PartitionSpec

from mer_jax.models import tpu_attention as module
from mer_jax.models.attention import attention
from mer_jax.models.tpu_attention import tpu_attention, tpu_takes, width_at_once
from mer_jax.runtime.devices import local_mesh


def inputs(queries=17, keys=17, heads=4, size=64, rows=2):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=(rows, tokens, heads, size)), jnp.bfloat16) for tokens in (queries, keys, keys)]


def weighted(function):
    """A number, every part of the output with another weight."""

    def loss(*arrays):
        out = function(*arrays).astype(jnp.float32)
        return (out * jnp.sin(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape)).sum()

    return loss


CASES = [
    ({}, {}),
    ({}, {"causal": True}),
    ({}, {"lengths": jnp.array([5, 17])}),
    ({}, {"lengths": jnp.array([17, 1]), "causal": True}),
    ({"queries": 9, "keys": 13, "heads": 2, "size": 128}, {}),
    ({"queries": 21, "heads": 8, "size": 32}, {"lengths": jnp.array([16, 3])}),
    ({"heads": 6}, {}),
    ({"queries": 130, "keys": 19}, {}),  # two of them share a register, all heads'
    ({"queries": 131, "keys": 131}, {"lengths": jnp.array([131, 129]), "causal": True}),
]


def error_of(values, exact):
    """Root mean square."""
    return np.sqrt(np.square(np.asarray(values, np.float32) - exact).mean())


@pytest.mark.parametrize(("shape", "options"), CASES)
def test_outputs_and_gradients_are_as_exact_as_by_products_and_a_softmax(shape, options, monkeypatch):
    """Errors against float32, root mean square: what XLA's have in bfloat16, and a quarter of it at most."""
    monkeypatch.setattr(module, "WIDEST", 1024)  # six heads of 64 in three steps, four in one; in two backward
    arrays = inputs(**shape)

    def kernel(q, k, v):
        return tpu_attention(q, k, v, interpret=True, **options)

    def plain(q, k, v):
        return attention(q, k, v, impl="xla", **options)

    def values(function, arrays):
        """Outputs and gradients."""
        return function(*arrays), *jax.grad(weighted(function), argnums=(0, 1, 2))(*arrays)

    assert tpu_takes(*arrays)
    exact = values(plain, [x.astype(jnp.float32) for x in arrays])
    for ours, theirs, right in zip(values(kernel, arrays), values(plain, arrays), exact, strict=True):
        assert ours.dtype == jnp.bfloat16
        assert error_of(ours, right) <= 1.25 * error_of(theirs, right) < 0.01


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("options", [{}, {"lengths": jnp.array([5, 17]), "causal": True}])
def test_a_bias_is_added(rows, options, monkeypatch):
    """To each row's logits its own, or to all rows' the same one; of two heads in a step."""
    monkeypatch.setattr(module, "BIASES", 2 * 17 * 17)
    arrays, bias = inputs(), jnp.asarray(np.random.default_rng(1).normal(size=(rows, 4, 17, 17)), jnp.float32)
    exact = attention(*(x.astype(jnp.float32) for x in arrays), bias=bias, impl="xla", **options)
    usual = attention(*arrays, bias=bias, impl="xla", **options)
    out = tpu_attention(*arrays, bias=bias, interpret=True, **options)
    assert error_of(out, exact) <= 1.25 * error_of(usual, exact) < 0.01


@pytest.mark.parametrize("rows", [1, 2])
def test_beside_a_bias_gradients_are_those_of_products_and_a_softmax(rows):
    arrays, bias = inputs(), jnp.asarray(np.random.default_rng(1).normal(size=(rows, 4, 17, 17)), jnp.float32)
    options = {"lengths": jnp.array([5, 17]), "causal": True}

    def kernel(q, k, v, bias):
        return tpu_attention(q, k, v, bias=bias, interpret=True, **options)

    def plain(q, k, v, bias):
        return attention(q, k, v, bias=bias, impl="xla", **options)

    ours, right = (jax.grad(weighted(each), argnums=(0, 1, 2, 3))(*arrays, bias) for each in (kernel, plain))
    for x, y in zip(ours, right, strict=True):
        np.testing.assert_allclose(np.asarray(x, np.float32), np.asarray(y, np.float32), atol=1e-6)


BIAS = jnp.asarray(np.random.default_rng(1).normal(size=(1, 2, 301, 301)), jnp.bfloat16)


@pytest.mark.parametrize("options", [{}, {"lengths": jnp.array([301, 77]), "causal": True}, {"bias": BIAS}])
def test_long_sequences_go_through_their_queries_in_blocks(options, monkeypatch):
    """Of 128 and what is left of 301; their gradients are those of products and a softmax, but for a last bit."""
    monkeypatch.setattr(module, "SHORT", 256)
    monkeypatch.setattr(module, "BLOCK", 128)
    arrays = inputs(queries=301, keys=301, heads=2)
    exact = attention(*(x.astype(jnp.float32) for x in arrays), impl="xla", **options)
    usual = attention(*arrays, impl="xla", **options)
    out = tpu_attention(*arrays, interpret=True, **options)
    assert error_of(out, exact) <= 1.25 * error_of(usual, exact) < 0.01
    ours, right = (
        jax.grad(weighted(each), argnums=(0, 1, 2))(*arrays)
        for each in (
            lambda *arrays: tpu_attention(*arrays, interpret=True, **options),
            lambda *arrays: attention(*arrays, impl="xla", **options),
        )
    )
    for x, y in zip(ours, right, strict=True):
        np.testing.assert_allclose(np.asarray(x, np.float32), np.asarray(y, np.float32), rtol=2**-7, atol=1e-6)


def test_a_bias_that_hides_all_keys_leaves_a_query_finite():
    out = tpu_attention(*inputs(), bias=jnp.full((1, 4, 17, 17), jnp.finfo(jnp.float32).min), interpret=True)
    assert jnp.isfinite(out).all()


def test_the_few_last_queries_do_not_depend_on_those_before():
    """The same tokens alone, one head at a time, give the same."""
    q, k, v = inputs(queries=130, keys=19)
    out = tpu_attention(q, k, v, interpret=True)[:, 128:]
    alone = tpu_attention(q[:, 128:], k, v, interpret=True)
    np.testing.assert_allclose(np.asarray(out, np.float32), np.asarray(alone, np.float32), atol=2**-7)


def test_hidden_keys_do_not_matter_and_a_row_without_any_stays_finite():
    q, k, v = inputs()
    lengths = jnp.array([6, 0])
    changed = k.at[0, 6:].set(1e4), v.at[0, 6:].set(-1e4)
    out, again = (tpu_attention(q, *kv, lengths, interpret=True) for kv in ((k, v), changed))
    np.testing.assert_array_equal(out[0], again[0])
    assert jnp.isfinite(out).all()


def test_sets_side_by_side_give_what_each_gives():
    sets = [jnp.stack([x, x[::-1] + 1]) for x in inputs()]

    def gradients(q, k, v):
        return jax.grad(weighted(lambda *arrays: tpu_attention(*arrays, interpret=True)), argnums=(0, 1, 2))(q, k, v)

    together = jax.vmap(gradients)(*sets)
    for index in range(2):
        alone = gradients(*(x[index] for x in sets))
        jax.tree.map(lambda x, y, i=index: np.testing.assert_array_equal(x[i], y), together, alone)


def test_arrays_that_are_split_over_a_mesh():
    arrays = jax.device_put(inputs(), NamedSharding(local_mesh(), PartitionSpec("data")))
    out = jax.jit(lambda q, k, v: tpu_attention(q, k, v, jnp.array([5, 17]), interpret=True))(*arrays)
    np.testing.assert_array_equal(out, tpu_attention(*inputs(), jnp.array([5, 17]), interpret=True))


@pytest.mark.parametrize(
    ("heads", "size", "forward", "backward"),
    [
        (16, 64, 1024, 512),
        (12, 64, 768, 384),
        (20, 64, 640, 256),
        (1, 128, 128, 128),
        (40, 128, 1024, 512),
        (3, 64, 0, 0),
        (4, 72, 0, 0),
        (2, 256, 0, 0),
    ],
)
def test_how_many_heads_a_step_takes(heads, size, forward, backward):
    assert (width_at_once(heads, size, 512), width_at_once(heads, size, 17, arrays=7)) == (forward, backward)


def on_tpu(queries=64, keys=64, heads=4, key_heads=4, size=64, dtype=jnp.bfloat16, mesh=(1, 1)):
    """Shapes of q, k and v on a mesh of TPUs."""
    device = AbstractDevice("TPU v5 lite", None, "tpu")
    places = AbstractMesh(mesh, ("data", "model"), axis_types=(AxisType.Auto,) * 2, abstract_device=device)
    return [
        jax.ShapeDtypeStruct((2, t, n, size), dtype, sharding=NamedSharding(places, PartitionSpec("data")))
        for t, n in ((queries, heads), (keys, key_heads), (keys, key_heads))
    ]


def traced(*arrays, **options):
    return str(jax.jit(lambda q, k, v: attention(q, k, v, **options)).trace(*arrays).jaxpr)


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ({}, {}, True),
        ({}, {"lengths": jnp.array([3, 64]), "causal": True}, True),
        ({"queries": 257, "keys": 261}, {}, True),
        ({"queries": 512, "keys": 512}, {}, True),
        ({"queries": 1500, "keys": 1500}, {}, True),
        ({"queries": 2049, "keys": 2049}, {}, False),
        ({"queries": 1}, {}, False),
        ({"dtype": jnp.float32}, {}, False),
        ({"key_heads": 2}, {}, False),
        ({"size": 72}, {}, False),
        ({"mesh": (1, 2)}, {}, True),
        ({"mesh": (1, 4)}, {}, False),  # each device has one head of 64, half a register
        ({}, {"mask": jnp.ones((64, 64), bool)}, False),
        ({}, {"bias": jnp.zeros((1, 4, 64, 64))}, True),
        ({}, {"bias": jnp.zeros((1, 1, 64, 64))}, False),
        ({"queries": 512, "keys": 512}, {"bias": jnp.zeros((1, 4, 512, 512))}, True),
        ({"queries": 512, "keys": 512, "size": 32}, {"bias": jnp.zeros((1, 4, 512, 512))}, False),  # four at once
        ({}, {"impl": "xla"}, False),
    ],
)
def test_a_tpu_takes_what_it_can(shape, options, expected):
    assert ("pallas_call" in traced(*on_tpu(**shape), **options)) == expected


def test_each_device_has_its_rows_and_its_heads():
    assert "bf16[1,64,128]" in traced(*on_tpu(mesh=(2, 2))) and "bf16[2,64,256]" in traced(*on_tpu())


@pytest.mark.parametrize(("rows", "expected"), [(1, "f32[1,2,64,64]"), (4, "f32[2,2,64,64]")])
def test_each_device_has_the_bias_of_its_rows_and_its_heads(rows, expected):
    arrays = [jax.ShapeDtypeStruct((4, *x.shape[1:]), x.dtype, sharding=x.sharding) for x in on_tpu(mesh=(2, 2))]
    program = traced(*arrays, bias=jnp.zeros((rows, 4, 64, 64)))
    assert expected in program and "attention_forward_64x64x128" in program


def test_the_program_for_a_tpu_keeps_no_logits():
    """Forward, and backward with recomputation; what is written down is a kernel for each."""

    def loss(q, k, v):
        return jnp.square(jax.checkpoint(attention)(q, k, v)).sum().astype(jnp.float32)

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    text = gradients.trace(*on_tpu(queries=96, keys=80)).lower(lowering_platforms=("tpu",)).as_text()
    names = ("attention_forward_96x80x256", "attention_backward_96x80x256")
    assert all(name in text for name in names) and "80x96xf32" not in text and "96x80xf32" not in text
