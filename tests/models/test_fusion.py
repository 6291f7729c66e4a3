from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mer_jax.fusion.trainer import Moments, adam
from mer_jax.models.fusion import AttentionFusion, drop_modalities, dropout_masks

DIMS = {"text": 7, "speech": 5, "video": 4}  # not in the canonical order
ORDER = ("speech", "text", "video")


def make_batch(size=6, seed=0):
    rng = np.random.default_rng(seed)
    x = {name: rng.normal(size=(size, dim)).astype(np.float32) for name, dim in DIMS.items()}
    present = {name: rng.random(size) < 0.7 for name in DIMS}
    return x, present


def make_model(**options):
    return AttentionFusion(DIMS, hidden=8, num_classes=3, rngs=nnx.Rngs(0), **options)


def draw_weights(model):
    """The model with weights that numpy draws."""
    rng = np.random.default_rng(1)
    graph, params, rates = nnx.split(model, nnx.Param, ...)
    params = jax.tree.map(lambda x: jnp.asarray(0.4 * rng.normal(size=x.shape), jnp.float32), params)
    return nnx.merge(graph, params, rates)


def torch_weights(model):
    """Our weights under the names that `TorchFusion` has for them."""
    layers = {}
    for i, name in enumerate(ORDER):
        layers[f"encoders.{i}.0"] = model.inputs[name].kernel[...], model.inputs[name].bias[:, 0]
        for j, layer in enumerate(model.encoders, 1):
            layers[f"encoders.{i}.{2 * j}"] = layer.kernel[i], layer.bias[i, 0]
    for j, layer in enumerate(model.scorer):
        layers[f"scorer.{2 * j}"] = layer.kernel[...], layer.bias[...]
    for name in ("attention", "classifier"):
        layers[name] = getattr(model, name).kernel[...], getattr(model, name).bias[...]
    return {
        f"{name}.{part}": np.array(value)
        for name, values in layers.items()
        for part, value in zip(("weight", "bias"), values, strict=True)
    }


def torch_fusion(weights):
    from tests.models.torch_fusion import TorchFusion

    return TorchFusion({name: DIMS[name] for name in ORDER}, 8, 3, weights)


def torch_output(weights, *batch):
    logits, attention = torch_fusion(weights)(*batch)
    return {"logits": logits.detach(), "attention": attention.detach()}


def torch_steps(weights, x, present, labels):
    """Weights after three steps."""
    import torch

    model = torch_fusion(weights)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x, present)[0], torch.tensor(labels)).backward()
        optimizer.step()
    return model.state_dict()


def test_logits_and_attention_equal_torch(oracle):
    model, batch = draw_weights(make_model()), make_batch()
    out = model(*batch)
    expected = oracle("fusion/output", lambda: torch_output(torch_weights(model), *batch))
    np.testing.assert_allclose(out.logits, expected["logits"], atol=1e-5)
    np.testing.assert_allclose(out.attention, expected["attention"], atol=1e-5)


def test_adam_steps_equal_torch(oracle):
    model, (x, present) = draw_weights(make_model(dropout=0.0, modality_dropout=0.0)), make_batch()
    labels = np.arange(6) % 3
    expected = oracle("fusion/adam", lambda: torch_steps(torch_weights(model), x, present, labels))
    graph, params, rates = nnx.split(model, nnx.Param, ...)
    moments = Moments.zeros(params)
    step = jax.jit(adam)

    @jax.jit
    @jax.grad
    def gradient(params):
        logits = nnx.merge(graph, params, rates)(x, present, deterministic=False, rngs=nnx.Rngs(1)).logits
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(6), labels])

    for _ in range(3):
        grads = gradient(params)
        params, moments = step(grads, params, moments, 3e-3, 1e-2, True)
        idle = step(grads, params, moments, 3e-3, 1e-2, False)
        jax.tree.map(np.testing.assert_array_equal, idle, (params, moments))

    ours = torch_weights(nnx.merge(graph, params, rates))
    assert ours.keys() == expected.keys()
    for name, weights in expected.items():
        np.testing.assert_allclose(ours[name], weights, atol=1e-5, err_msg=name)


def test_initial_weights_are_torch_linears():
    model = AttentionFusion({"speech": 400}, hidden=100, num_classes=3, rngs=nnx.Rngs(0))
    kernel, bias = model.inputs["speech"].kernel[...], model.classifier.bias[...]
    np.testing.assert_allclose(kernel.std(), 1 / np.sqrt(3 * 400), rtol=0.02)
    assert 0.049 < jnp.abs(kernel).max() <= 0.05
    assert 0 < jnp.abs(bias).max() <= 0.1
    assert jnp.abs(model.scorer[0].kernel[...] - model.scorer[1].kernel[...]).min() > 0  # no draw used twice


def test_absent_is_the_zero_vector_whatever_the_row_holds():
    model, (x, present) = make_model(), make_batch()
    zeroed = {name: np.where(present[name][:, None], x[name], 0) for name in DIMS}
    spoiled = {name: np.where(present[name][:, None], x[name], np.nan) for name in DIMS}
    expected = model(zeroed)
    np.testing.assert_array_equal(model(spoiled, present).logits, expected.logits)
    np.testing.assert_array_equal(model(spoiled, present).attention, expected.attention)


def test_modality_order_of_the_arguments_does_not_matter():
    model, (x, present) = make_model(), make_batch()
    assert model.modalities == ORDER
    swapped = AttentionFusion(dict(reversed(DIMS.items())), hidden=8, num_classes=3, rngs=nnx.Rngs(0))
    backwards = [dict(reversed(part.items())) for part in (x, present)]
    np.testing.assert_array_equal(swapped(*backwards).logits, model(x, present).logits)


def test_sample_does_not_depend_on_its_batch():
    model, (x, present) = make_model(), make_batch()
    alone = model({k: v[2:3] for k, v in x.items()}, {k: v[2:3] for k, v in present.items()})
    np.testing.assert_allclose(alone.logits[0], model(x, present).logits[2], atol=1e-6)


def test_training_draws_follow_the_key():
    model, (x, present) = make_model(), make_batch()
    first, again, other = (model(x, present, deterministic=False, rngs=nnx.Rngs(seed)).logits for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert jnp.abs(first - other).max() > 1e-4


@pytest.mark.parametrize("keep_one", [True, False])
def test_training_equals_torch_with_the_same_draws(oracle, keep_one):
    """What modality dropout takes away is absent, and nothing is scaled up for it; inverted dropout does scale."""
    model = draw_weights(make_model(dropout=0.4, modality_dropout=0.5, keep_one=keep_one))
    x, present = make_batch()
    out = model(x, present, deterministic=False, rngs=nnx.Rngs(modality=3, dropout=4))
    seen = jnp.stack([present[name] for name in ORDER], axis=1)
    shown = drop_modalities(seen, 0.5, nnx.Rngs(3).modality(), keep_one)
    assert 0 < shown.sum() < seen.sum()
    widths = {name: DIMS[name] for name in ORDER} | {"scorer": 3 * 8}
    keep = dropout_masks(widths, 6, jnp.float32(0.4), nnx.Rngs(4).dropout())
    seen_by = {name: np.asarray(column) for name, column in zip(ORDER, shown.T, strict=True)}
    masks = {name: np.asarray(mask) for name, mask in keep.items()}
    expected = oracle(f"fusion/training_{keep_one}", lambda: torch_output(torch_weights(model), x, seen_by, masks))
    np.testing.assert_allclose(out.logits, expected["logits"], atol=1e-5)
    np.testing.assert_allclose(out.attention, expected["attention"], atol=1e-5)


def test_modality_dropout_alone_is_masked_inference():
    model, (x, present) = make_model(dropout=0.0, modality_dropout=0.5), make_batch(size=40)
    out = model(x, present, deterministic=False, rngs=nnx.Rngs(1))
    seen = jnp.stack([present[name] for name in ORDER], axis=1)
    shown = drop_modalities(seen, 0.5, nnx.Rngs(1).modality())
    assert 0 < shown.sum() < seen.sum()
    expected = model(x, dict(zip(ORDER, shown.T, strict=True)))
    np.testing.assert_allclose(out.logits, expected.logits, atol=1e-6)
    np.testing.assert_allclose(out.attention, expected.attention, atol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_modality_dropout_rate(rate):
    present = jnp.ones((20000, 4), bool)
    kept = drop_modalities(present, rate, jax.random.key(0), keep_one=False)
    np.testing.assert_allclose(kept.mean(axis=0), 1 - rate, atol=0.012)


def test_modality_dropout_does_not_rescale_what_it_leaves():
    """Each training-mode output is the inference with some of the modalities, as they are."""
    x, _ = make_batch(200)
    model = make_model(dropout=0.0, modality_dropout=0.5)
    subsets = [np.array(subset) for subset in product([False, True], repeat=3) if any(subset)]
    alone = [
        model(x, {name: np.full(200, seen) for name, seen in zip(ORDER, subset, strict=True)}) for subset in subsets
    ]
    trained = model(x, deterministic=False, rngs=nnx.Rngs(0)).logits
    distance = np.abs(np.stack([out.logits for out in alone]) - trained).max(-1)  # [7, 200]
    np.testing.assert_allclose(distance.min(0), 0, atol=1e-6)
    assert len(np.unique(distance.argmin(0))) == len(subsets)  # all of them were drawn


def test_keep_one_redraws_only_empty_draws_uniformly_among_the_present():
    present = jnp.tile(jnp.array([True, False, True, True]), (30000, 1))
    key = jax.random.key(0)
    literal = drop_modalities(present, 0.6, key, keep_one=False)
    kept = drop_modalities(present, 0.6, key, keep_one=True)
    empty = ~literal.any(axis=1)
    np.testing.assert_allclose(empty.mean(), 0.6**3, atol=0.008)
    np.testing.assert_array_equal(kept[~empty], literal[~empty])
    assert (kept[empty].sum(axis=1) == 1).all()
    np.testing.assert_allclose(kept[empty].mean(axis=0), [1 / 3, 0, 1 / 3, 1 / 3], atol=0.02)


def test_keep_one_has_nothing_to_keep_where_nothing_is_present():
    assert not drop_modalities(jnp.zeros((5, 3), bool), 0.5, jax.random.key(0)).any()


def test_no_stream_is_refused():
    with pytest.raises(ValueError, match="at least one stream"):
        AttentionFusion({}, rngs=nnx.Rngs(0))


def test_training_without_rngs_is_refused():
    with pytest.raises(ValueError, match="rngs"):
        make_model()(make_batch()[0], deterministic=False)


def test_dropout_masks_have_their_rate_and_expectation():
    masks = dropout_masks({"a": 301, "b": 200}, 101, jnp.float32(0.3), jax.random.key(0))
    assert masks["a"].shape == (101, 301)
    assert masks["b"].shape == (101, 200)
    both = jnp.concatenate([masks["a"], masks["b"]], axis=1)
    np.testing.assert_allclose(np.unique(both), [0, 1 / 0.7], rtol=1e-6)
    np.testing.assert_allclose(both.mean(), 1, atol=0.01)
    for draws in (both, both.T):  # the mean square correlation of unrelated rows of n draws is 1 / (n - 1)
        rows, length = draws.shape
        squares = jnp.square(jnp.corrcoef(draws)).sum() - rows
        np.testing.assert_allclose(squares / (rows * (rows - 1)), 1 / (length - 1), rtol=0.05)
    other = dropout_masks({"a": 301}, 101, jnp.float32(0.3), jax.random.key(1))["a"]
    np.testing.assert_allclose(jnp.corrcoef(other.ravel(), masks["a"].ravel())[0, 1], 0, atol=0.03)
    np.testing.assert_allclose(jnp.corrcoef(masks["a"][:, :200].ravel(), masks["b"].ravel())[0, 1], 0, atol=0.03)
