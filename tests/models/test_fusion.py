from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from mer_jax.fusion.trainer import Moments, adam
from mer_jax.models.fusion import AttentionFusion, _dropout_masks, drop_modalities

DIMS = {"text": 7, "speech": 5, "video": 4}  # not in the canonical order
ORDER = ("speech", "text", "video")


def make_batch(size=6, seed=0):
    rng = np.random.default_rng(seed)
    x = {name: rng.normal(size=(size, dim)).astype(np.float32) for name, dim in DIMS.items()}
    present = {name: rng.random(size) < 0.7 for name in DIMS}
    return x, present


def make_model(**options):
    return AttentionFusion(DIMS, hidden=8, num_classes=3, rngs=nnx.Rngs(0), **options)


class TorchFusion(torch.nn.Module):
    """The specification, written independently: one encoder after the other."""

    def __init__(self, model: AttentionFusion):
        super().__init__()
        encoders = []
        for i, name in enumerate(ORDER):
            first = model.inputs[name]
            rest = [(layer.kernel[i], layer.bias[i, 0]) for layer in model.encoders]
            encoders.append(mlp([(first.kernel[...], first.bias[:, 0]), *rest]))
        self.encoders = torch.nn.ModuleList(encoders)
        self.scorer = mlp([(layer.kernel[...], layer.bias[...]) for layer in model.scorer])
        self.attention = linear(model.attention.kernel[...], model.attention.bias[...])
        self.classifier = linear(model.classifier.kernel[...], model.classifier.bias[...])

    def forward(self, x, present):
        encoded = []
        for encoder, name in zip(self.encoders, ORDER, strict=True):
            encoded.append(encoder(torch.tensor(x[name]) * torch.tensor(present[name])[:, None]))
        attention = self.attention(self.scorer(torch.cat(encoded, dim=1)))
        fused = torch.matmul(torch.stack(encoded, dim=2), attention[:, :, None])[:, :, 0]
        return self.classifier(fused), attention


def linear(kernel, bias):
    layer = torch.nn.Linear(*kernel.shape[::-1])
    layer.weight.data, layer.bias.data = torch.tensor(np.array(kernel)), torch.tensor(np.array(bias))
    return layer


def mlp(weights):
    return torch.nn.Sequential(*[part for pair in weights for part in (linear(*pair), torch.nn.ReLU())])


def test_logits_and_attention_equal_torch():
    model, (x, present) = make_model(), make_batch()
    out = model(x, present)
    logits, attention = TorchFusion(model)(x, present)
    np.testing.assert_allclose(out.logits, logits.detach(), atol=1e-5)
    np.testing.assert_allclose(out.attention, attention.detach(), atol=1e-5)


def test_adam_steps_equal_torch():
    model, (x, present) = make_model(dropout=0.0, modality_dropout=0.0), make_batch()
    labels = np.arange(6) % 3
    oracle = TorchFusion(model)
    optimizer = torch.optim.Adam(oracle.parameters(), lr=3e-3, weight_decay=1e-2)
    graph, params, rates = nnx.split(model, nnx.Param, ...)
    moments = Moments.zeros(params)
    step = jax.jit(adam)

    @jax.jit
    @jax.grad
    def gradient(params):
        logits = nnx.merge(graph, params, rates)(x, present, deterministic=False, rngs=nnx.Rngs(1)).logits
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(6), labels])

    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(oracle(x, present)[0], torch.tensor(labels)).backward()
        optimizer.step()
        grads = gradient(params)
        params, moments = step(grads, params, moments, 3e-3, 1e-2, True)
        idle = step(grads, params, moments, 3e-3, 1e-2, False)
        jax.tree.map(np.testing.assert_array_equal, idle, (params, moments))

    ours = TorchFusion(nnx.merge(graph, params, rates)).state_dict()
    for name, expected in oracle.state_dict().items():
        np.testing.assert_allclose(ours[name], expected, atol=1e-5, err_msg=name)


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


def test_dropout_masks_have_their_rate_and_expectation():
    masks = _dropout_masks({"a": 301, "b": 200}, 101, jnp.float32(0.3), jax.random.key(0))
    assert masks["a"].shape == (101, 301)
    assert masks["b"].shape == (101, 200)
    both = jnp.concatenate([masks["a"], masks["b"]], axis=1)
    np.testing.assert_allclose(np.unique(both), [0, 1 / 0.7], rtol=1e-6)
    np.testing.assert_allclose(both.mean(), 1, atol=0.01)
    np.testing.assert_allclose(jnp.corrcoef(both.T) - jnp.eye(501), 0, atol=0.6)
    other = _dropout_masks({"a": 301}, 101, jnp.float32(0.3), jax.random.key(1))["a"]
    np.testing.assert_allclose(jnp.corrcoef(other.ravel(), masks["a"].ravel())[0, 1], 0, atol=0.03)
    np.testing.assert_allclose(jnp.corrcoef(masks["a"][:, :200].ravel(), masks["b"].ravel())[0, 1], 0, atol=0.03)


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


def test_unknown_or_no_modality_is_refused():
    for dims in ({}, {"smell": 3}):
        with pytest.raises(ValueError, match="speech"):
            AttentionFusion(dims, rngs=nnx.Rngs(0))


def test_training_without_rngs_is_refused():
    with pytest.raises(ValueError, match="rngs"):
        make_model()(make_batch()[0], deterministic=False)
