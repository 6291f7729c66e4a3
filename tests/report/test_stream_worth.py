"""What streams are worth, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from mer_jax.fusion.data import Embeddings
from mer_jax.metrics import waf
from mer_jax.report.stream_worth import stream_section

MODALITY_OF = {"hubert": "speech", "wavlm": "speech", "text": "text"}


def logits(*predictions):
    return np.eye(2)[list(predictions)]


class Fusion:
    """Two folds of six clips. The fused networks are right wherever wavlm is shown, else say 1."""

    data = SimpleNamespace(
        modality_of=MODALITY_OF,
        modalities=("speech", "text"),
        shown=("speech",),
        labels=np.array([0, 1, 0, 1, 0, 1]),
        held_out=np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], bool),
        labelled=Embeddings(
            {},
            {
                "hubert": np.array([1, 1, 1, 1, 1, 0], bool),
                "wavlm": np.ones(6, bool),
                "text": np.array([1, 0, 0, 0, 0, 0], bool),
            },
            {"hubert": "speech", "wavlm": "speech"},
        ),
    )
    networks = SimpleNamespace(scorer=lambda *part: SimpleNamespace(attention=np.ones((2, 6, 3))))

    def held_out_logits(self, fitted):
        return fitted

    def held_out_of(self, run, clips):
        assert not clips.present["text"].any()  # which is not shown
        return logits(*np.where(clips.present["wavlm"], self.data.labels, 1))

    def fold_wafs(self, logits):
        return np.array([waf(self.data.labels[clips], logits[clips]) for clips in self.data.held_out])


def trained(*predictions, score=0.5, diverged=""):
    return SimpleNamespace(
        fitted=logits(*predictions), cv_waf=np.array([score, score + 0.2]), test_waf=None, diverged=diverged
    )


def test_each_stream_alone_without_and_beside_the_others():
    alone = {
        "hubert": trained(0, 1, 1, 1, 1, 1),  # right, right, wrong, right, wrong; the last clip lacks it
        "wavlm": trained(1, 1, 1, 1, 1, 1),  # wrong, right, wrong, right, wrong
        "text": trained(0, 0, 0, 0, 0, 0),
    }
    section = stream_section(Fusion(), SimpleNamespace(members=None), alone, ("x", "y"))
    hubert, wavlm, text = section["worth"]
    assert hubert == {
        "stream": "hubert", "clips": 5, "cv_waf": pytest.approx(0.6), "cv_std": pytest.approx(0.1), "test_waf": None,
        "without_waf": 1.0,
    }  # fmt: skip
    assert wavlm["without_waf"] == pytest.approx((1 / 6 + 8 / 15) / 2) and text["without_waf"] is None
    expected = np.corrcoef([1, 1, 0, 1, 0], [0, 1, 0, 1, 0])[0, 1]
    assert section["correlation"] == {
        a: {b: pytest.approx(expected)} for a, b in (("hubert", "wavlm"), ("wavlm", "hubert"))
    }
    assert text["cv_waf"] is None  # the score is by speech, as the candidates have it
    assert section["attention"]["x"] == dict.fromkeys(MODALITY_OF, 1.0)


def test_what_was_not_trained_or_diverged_has_no_score():
    alone = {"hubert": trained(0, 1, 0, 1, 0, 1, diverged="fold 1")}
    section = stream_section(Fusion(), SimpleNamespace(members=None), alone, ("x", "y"))
    assert section["worth"][0]["cv_waf"] is None and section["correlation"] == {}
