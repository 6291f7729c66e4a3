"""The bundled language model, made by pretrain/baichuan.py."""

from importlib import resources

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sentencepiece

from mer_jax.data.sample.cues import EMOTIONS
from mer_jax.data.sample.sentences import sentence
from mer_jax.models.baichuan import Baichuan
from mer_jax.text.lexicon import rank
from mer_jax.text.templates import join
from mer_jax.text.tokenizer import Tokenizer

FOLDER = resources.files("mer_jax") / "assets" / "baichuan"


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(FOLDER)


@pytest.fixture(scope="module")
def held_out(tokenizer):
    """Token ids [B, L] and lengths [B] of joined transcripts."""
    rng = np.random.default_rng(2024)
    transcripts = [sentence(EMOTIONS[i % 6], bool(i % 2), rng)[0] for i in range(48)]
    rankings = rank(transcripts, EMOTIONS)
    rows = tokenizer.encode([join(*pair, "zh-1") for pair in zip(rankings, transcripts, strict=True)])
    lengths = np.array([len(row) for row in rows], np.int32)
    ids = np.zeros((len(rows), lengths.max()), np.int32)
    for padded, row in zip(ids, rows, strict=True):
        padded[: len(row)] = row
    return ids, lengths


def test_the_tokenizer_loses_nothing():
    processor = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / "tokenizer.model"))
    for text in ["我很担心，会不会出事？", "I am  worried.", "罕见字：龘", "  ", "全角ＡＢＣ"]:
        assert processor.decode(processor.encode(text)) == text


def test_tokens_are_ids_of_the_model(tokenizer, held_out):
    model = Baichuan.from_pretrained(FOLDER)
    assert tokenizer.vocab_size == model.embedding.shape[0]
    assert model.lm_head is None and model.frequencies is None  # ALiBi, no rotary positions
    ids, lengths = held_out
    out = model(ids[:2], lengths[:2])
    assert out.hidden_states.shape == (4, 2, ids.shape[1], 128)


def test_it_has_learned_the_language(tokenizer, held_out):
    model = Baichuan.from_pretrained(FOLDER, lm_head=True)
    ids, lengths = held_out
    hidden = model(ids, lengths, keep_layers=1).hidden_states[-1]
    losses = optax.softmax_cross_entropy_with_integer_labels(model.logits(hidden[:, :-1]), ids[:, 1:])
    transcript = np.arange(1, ids.shape[1]) >= np.array([row.index(start) for row in ids.tolist()])[:, None]
    assert losses.mean(where=jnp.arange(1, ids.shape[1]) < lengths[:, None]) < 1.0
    assert np.log(tokenizer.vocab_size) > 7
