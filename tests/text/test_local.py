"""The local annotator, on the bundled checkpoint."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mer_jax.data.dataset import LABELS
from mer_jax.data.sample.sentences import sentence
from mer_jax.models.baichuan import Baichuan
from mer_jax.text.answers import Usage
from mer_jax.text.local import LocalAnnotator
from mer_jax.text.ranking_settings import LocalSettings
from mer_jax.text.rankings import rank_all
from mer_jax.text.templates import TEMPLATES, join


@pytest.fixture
def settings():
    return LocalSettings(
        source="bundled/baichuan", template="zh-1", dtype="float32", buckets_tokens=(48, 64), batch_tokens=1024
    )


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_label_scores_by_its_log_likelihood_with_and_without_the_transcript(settings, template):
    annotator = LocalAnnotator(replace(settings, template=template))
    transcript = "我好担心，怎么办？"
    (answer,) = annotator.rank([transcript], LABELS, Usage())
    model = Baichuan.from_pretrained(settings.source, lm_head=True)

    def log_likelihoods(transcript):
        """Of each label's text, from where the labels' texts part: nats in float64."""
        rankings = [[label, *(other for other in LABELS if other != label)] for label in LABELS]
        rows = annotator.tokenizer.encode([join(ranking, transcript, template) for ranking in rankings])
        start = next(i for i in range(64) if len({row[i] for row in rows}) > 1)
        ids = np.array([row + [0] * (64 - len(row)) for row in rows])
        hidden = model(ids, np.array([len(row) for row in rows]), keep_layers=1).hidden_states[-1]
        logits = np.asarray(model.logits(hidden), np.float64)  # [6, 64, V]
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        return np.array([sum(logits[i, j - 1, row[j]] for j in range(start, len(row))) for i, row in enumerate(rows)])

    scores = json.loads(answer.reply)
    expected = log_likelihoods(transcript) - log_likelihoods("")
    np.testing.assert_allclose([scores[label] for label in LABELS], expected, atol=1e-3)
    assert list(answer.ranking) == sorted(LABELS, key=lambda label: -scores[label])


def test_the_setting_of_attention_reaches_the_decoder(settings, monkeypatch):
    models = []
    monkeypatch.setattr("mer_jax.text.local.frozen_program", lambda model, function: models.append(model))
    with pytest.raises(TypeError, match="not callable"):
        list(LocalAnnotator(replace(settings, attention="cudnn")).rank(["好"], LABELS, Usage()))
    assert models[0].layers.attention.impl == "cudnn"


def test_it_reads_the_sample_better_than_chance_and_only_once(settings, tmp_path):
    rng = np.random.default_rng(7)
    said = {sentence(label, True, rng)[0]: label for label in LABELS[1:] * 8}
    long = "啊" * 20_000
    rankings = rank_all([*said, long], LABELS, LocalAnnotator(settings), tmp_path)
    assert not rankings.failures and sorted(rankings.ranked[long]) == sorted(LABELS)
    hits = [rankings.ranked[text][0] == label for text, label in said.items()]
    assert np.mean(hits) > 0.4  # chance: 1 / 6
    annotator = LocalAnnotator(settings)
    annotator.rank = lambda *_: pytest.fail("scored again")
    assert rank_all([*said, long], LABELS, annotator, tmp_path) == rankings
