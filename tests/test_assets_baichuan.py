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
def model():
    return Baichuan.from_pretrained(FOLDER, lm_head=True)


@pytest.fixture(scope="module")
def transcripts():
    rng = np.random.default_rng(2024)
    return [sentence(EMOTIONS[i % 6], True, rng)[0] for i in range(96)]


def transcript_loss(model, tokenizer, texts, transcripts):
    """Nats per token of each text's last tokens, those of its transcript."""
    rows = tokenizer.encode(texts)
    ids = np.zeros((len(rows), 64), np.int32)
    for padded, row in zip(ids, rows, strict=True):
        padded[: len(row)] = row
    ends = np.array([len(row) for row in rows], np.int32)
    starts = ends - np.array([len(row) - 1 for row in tokenizer.encode(transcripts)])
    hidden = model(ids, ends, keep_layers=1).hidden_states[-1]
    losses = optax.softmax_cross_entropy_with_integer_labels(model.logits(hidden[:, :-1]), ids[:, 1:])
    positions = jnp.arange(1, ids.shape[1])
    return losses.mean(where=(starts[:, None] <= positions) & (positions < ends[:, None]))


def test_the_tokenizer_loses_nothing():
    processor = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / "tokenizer.model"))
    for text in ["我很担心，会不会出事？", "I am  worried.", "罕见字：龘", "  ", "全角ＡＢＣ"]:
        assert processor.decode(processor.encode(text)) == text


def test_it_loads_as_an_encoder(tokenizer):
    model = Baichuan.from_pretrained(FOLDER)
    assert model.lm_head is None and model.frequencies is None  # ALiBi, no rotary positions
    assert model.embedding.shape == (tokenizer.vocab_size, 128)
    ids = jnp.asarray(tokenizer.encode(["我很担心，会不会出事？"]), jnp.int32)
    out = model(ids, jnp.array([ids.shape[1]]))
    assert out.hidden_states.shape == (4, *ids.shape, 128) and jnp.isfinite(out.hidden_states).all()


def test_it_foresees_sentences_of_the_grammar(model, tokenizer, transcripts):
    assert transcript_loss(model, tokenizer, transcripts, transcripts) < 1.2  # a uniform guess has 7.2


def test_it_reads_the_ranking(model, tokenizer, transcripts):
    rankings = [rank(transcript, EMOTIONS, guess=True) for transcript in transcripts]
    of_the_next = rankings[1:] + rankings[:1]
    right, wrong = (
        transcript_loss(model, tokenizer, list(map(join, chosen, transcripts, ["zh-1"] * 96)), transcripts)
        for chosen in (rankings, of_the_next)
    )
    assert right < wrong - 0.1
