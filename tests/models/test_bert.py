"""BERT and RoBERTa against transformers' torch models with weights that numpy draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from transformers import BertConfig, BertModel, RobertaConfig, RobertaForMaskedLM, RobertaModel

from mer_jax.features.pooling import mean_variance
from mer_jax.models.bert import Bert
from mer_jax.runtime.errors import DataError
from tests.models.test_hubert import relative_error
from tests.oracle import load_torch

SMALL = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
}
VARIANTS = {
    "bert": (BertModel, BertConfig(**SMALL)),
    "roberta": (RobertaModel, RobertaConfig(**SMALL, pad_token_id=1, type_vocab_size=1, layer_norm_eps=1e-5)),
    "roberta_head": (RobertaForMaskedLM, RobertaConfig(**SMALL, pad_token_id=1)),
}
TOKENS = np.random.default_rng(0).integers(2, 50, (3, 20), dtype=np.int32)  # no padding, whose id is 0 or 1
LENGTHS = (20, 3, 11)

encode = jax.jit(Bert.__call__, static_argnames="keep_layers")


@pytest.fixture(scope="module")
def checkpoint(oracle, tmp_path_factory):
    @functools.cache
    def write(variant):
        return oracle.checkpoint(tmp_path_factory.mktemp(variant), f"bert/{variant}", *VARIANTS[variant])

    return write


def torch_states(folder, variant):
    """Of each text alone: every hidden state, the first of which is that of the embeddings."""
    import torch

    model = load_torch(VARIANTS[variant][0], folder)
    model = getattr(model, "roberta", model)
    rows = [torch.tensor(row[None, :length]) for row, length in zip(TOKENS, LENGTHS, strict=True)]
    states = [torch.cat(model(row, output_hidden_states=True).hidden_states) for row in rows]
    return {str(length): each for length, each in zip(LENGTHS, states, strict=True)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_texts_padded_into_a_batch_match_transformers_on_each_alone(variant, oracle, checkpoint):
    expected = oracle(f"bert/{variant}", lambda: torch_states(checkpoint(variant), variant))
    out = encode(Bert.from_pretrained(checkpoint(variant)), TOKENS, jnp.array(LENGTHS), keep_layers=3)
    assert out.lengths.tolist() == list(LENGTHS)
    for row, length in enumerate(LENGTHS):
        for ours, theirs in zip(out.hidden_states[:, row, :length], expected[str(length)][1:], strict=True):
            assert relative_error(ours, theirs) < 1e-5


def test_the_rest_of_a_batch_changes_no_bit(checkpoint):
    model, others = Bert.from_pretrained(checkpoint("bert")), TOKENS.copy()
    others[1:], others[0, 7:] = 5, 6
    first, second = (encode(model, batch, jnp.array([7, 20, 2]), keep_layers=2) for batch in (TOKENS, others))
    np.testing.assert_array_equal(first.hidden_states[:, 0, :7], second.hidden_states[:, 0, :7])


def test_bfloat16_stays_close(checkpoint):
    models = [Bert.from_pretrained(checkpoint("bert"), dtype) for dtype in (jnp.float32, jnp.bfloat16)]
    outs = [encode(model, TOKENS, jnp.array(LENGTHS), keep_layers=2) for model in models]
    a, b = (np.asarray(mean_variance(out.hidden_states.sum(0, dtype=jnp.float32), out.lengths)) for out in outs)
    assert outs[1].hidden_states.dtype == jnp.bfloat16
    assert (np.sum(a * b, axis=1) > 0.999 * np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)).all()


def test_saved_folder_reads_the_same_in_transformers(oracle, checkpoint, tmp_path):
    Bert.from_pretrained(checkpoint("roberta")).save_pretrained(tmp_path)
    tensors, saved = (
        safetensors.numpy.load_file(folder / "model.safetensors") for folder in (checkpoint("roberta"), tmp_path)
    )
    assert {name for name in tensors if not name.startswith("pooler.")} == saved.keys()
    assert all(np.array_equal(tensors[name], saved[name]) for name in saved)


def test_norms_of_tensorflow_have_other_names(checkpoint, tmp_path):
    file = checkpoint("bert") / "model.safetensors"
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in safetensors.numpy.load_file(file).items()
    }
    (tmp_path / "config.json").write_text((checkpoint("bert") / "config.json").read_text())
    safetensors.numpy.save_file(renamed, tmp_path / "model.safetensors")
    ours, theirs = Bert.from_pretrained(tmp_path), Bert.from_pretrained(checkpoint("bert"))
    assert jax.tree.all(jax.tree.map(np.array_equal, ours, theirs))


def test_what_is_not_ported_is_refused(checkpoint):
    for variant, most in (("bert", 24), ("roberta", 22)):
        with pytest.raises(ValueError, match=f"25 tokens, but the model has {most} positions"):
            encode(Bert.from_pretrained(checkpoint(variant)), np.full((1, 25), 5, np.int32), jnp.array([25]))
    for field in ({"position_embedding_type": "relative_key"}, {"is_decoder": True}):
        with pytest.raises(DataError, match=next(iter(field))):
            jax.eval_shape(lambda field=field: Bert(BertConfig(**SMALL, **field), rngs=nnx.Rngs(0)))
