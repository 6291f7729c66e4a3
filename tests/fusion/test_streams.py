"""Several streams of one modality: dropped, absent and scored together, in whatever order they come."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mer_jax.defaults import in_order
from mer_jax.fusion.data import Embeddings
from mer_jax.fusion.ensemble import Members, Scorer
from mer_jax.fusion.fusion_settings import AblationSettings, FusionSettings
from mer_jax.fusion.modalities import attention_by_modality, by_modality
from mer_jax.fusion.trials import Setting, make_trials, single_streams
from mer_jax.models.fusion import AttentionFusion, drop_streams

MODALITY_OF = {"gaze": "gaze", "text": "text", "wavlm": "speech", "hubert": "speech"}
DIMS = {"gaze": 3, "text": 4, "wavlm": 6, "hubert": 5}


def model(streams=MODALITY_OF, **options):
    dims = {name: DIMS[name] for name in streams}
    return AttentionFusion(dims, 8, 2, modality_of=streams, rngs=nnx.Rngs(0), **options)


def test_one_draw_of_modality_dropout_takes_all_streams_of_a_modality():
    network, seen = model(modality_dropout=0.5), jnp.ones((4000, 4), bool).at[:, 0].set(False)
    assert network.streams == ("hubert", "wavlm", "text", "gaze")
    left = np.asarray(network.drop(seen, jax.random.key(0)))
    assert left.any(axis=1).all()  # keep_one
    np.testing.assert_allclose(left.mean(axis=0), [0, *[0.5 + 0.5**3 / 3] * 3], atol=0.03)
    both = np.asarray(network.drop(jnp.ones((4000, 4), bool), jax.random.key(0)))
    np.testing.assert_array_equal(both[:, 0], both[:, 1])


def test_stream_dropout_leaves_each_modality_one_stream():
    present = jnp.ones((4000, 4), bool).at[::2, 0].set(False)
    left = np.asarray(drop_streams(present, jnp.array([0, 0, 1, 2]), 0.4, jax.random.key(0)))
    assert left[:, 2:].all() and left[::2, 1].all() and left[:, :2].any(axis=1).all()
    np.testing.assert_allclose(left[1::2, :2].mean(), 1 - 0.4 + 0.4**2 / 2, atol=0.03)


def test_one_stream_of_each_modality_gives_the_bits_of_modalities():
    streams = {"hubert": "speech", "text": "text"}
    x = {"hubert": np.ones((6, 5), np.float32), "text": np.ones((6, 4), np.float32)}
    named = {"speech": x["hubert"], "text": x["text"]}
    plain = AttentionFusion({"speech": 5, "text": 4}, 8, 2, rngs=nnx.Rngs(0))
    ours = model(streams, stream_dropout=0.5)(x, deterministic=False, rngs=nnx.Rngs(1))
    np.testing.assert_array_equal(ours.logits, plain(named, deterministic=False, rngs=nnx.Rngs(1)).logits)


def test_the_order_of_streams_does_not_matter():
    backwards = dict(reversed(MODALITY_OF.items()))
    x = {name: np.random.default_rng(0).normal(size=(6, width)).astype(np.float32) for name, width in DIMS.items()}
    outputs = [model(streams)(x, deterministic=False, rngs=nnx.Rngs(1)).logits for streams in (MODALITY_OF, backwards)]
    np.testing.assert_array_equal(*outputs)
    assert list(in_order({"b": "speech", "speech": "speech", "a": "speech"})) == ["speech", "a", "b"]


def test_a_clip_has_a_modality_if_it_has_any_of_its_streams():
    present = {
        "hubert": np.array([1, 0, 0], bool),
        "wavlm": np.array([1, 1, 0], bool),
        "text": np.array([0, 1, 1], bool),
    }
    clips = Embeddings({}, present, {"hubert": "speech", "wavlm": "speech"})
    assert by_modality(present, clips.modality_of)["speech"].tolist() == [True, True, False]
    assert clips.present_count.tolist() == [1, 2, 1]
    assert not clips.only(["text"]).present["wavlm"].any() and clips.only(["speech"]).present["wavlm"].any()


def test_attention_of_a_modality_is_the_sum_over_its_streams():
    summed = attention_by_modality(np.array([[1.0, 2, 4, 8]]), in_order(MODALITY_OF))
    assert summed.tolist() == [[3, 4, 8]]


def test_a_trial_of_some_modalities_sees_all_their_streams():
    settings = [Setting.of("speech", FusionSettings(), ("speech",))]
    sees = make_trials(np.array([0, 1]), jax.random.key(0), settings, modality_of=MODALITY_OF).sees
    assert {name: each.tolist() for name, each in sees.items()} == {
        "gaze": [False] * 2, "text": [False] * 2, "wavlm": [True] * 2, "hubert": [True] * 2
    }  # fmt: skip


def test_each_of_several_streams_is_trained_alone():
    settings = single_streams(FusionSettings(), AblationSettings(), MODALITY_OF)
    assert list(settings) == ["wavlm", "hubert"]  # text and gaze are modalities alone
    folds, key = np.array([0, 1]), jax.random.key(0)
    trials = make_trials(folds, key, [settings["wavlm"]], shown=["text"], modality_of=MODALITY_OF)
    for seen in (trials.sees, trials.shown):  # shown none of what it sees, it is shown that
        assert [name for name, each in seen.items() if each.all()] == ["wavlm"]
        assert not any(each.any() for name, each in seen.items() if name != "wavlm")
    assert not single_streams(FusionSettings(), AblationSettings(single_modalities=False), MODALITY_OF)


def test_networks_score_clips_by_the_order_of_streams_that_they_were_trained_with():
    network, rng = model(), np.random.default_rng(0)
    x = {name: rng.normal(size=(6, width)).astype(np.float32) for name, width in DIMS.items()}
    present = dict.fromkeys(x, np.ones(6, bool))
    params = jax.tree.map(lambda leaf: leaf[None], nnx.state(network, nnx.Param))
    members = Members(params, jnp.zeros(1, int), dict.fromkeys(x, jnp.ones(1, bool)))
    outputs = Scorer(DIMS, 2, 8, batch_size=8, modality_of=MODALITY_OF)(members, x, present)
    np.testing.assert_allclose(outputs.logits[0], network(x, present).logits, atol=1e-6)
    np.testing.assert_allclose(outputs.attention[0], network(x, present).attention, atol=1e-6)
