import re

import numpy as np
import pytest

from mer_jax.data.sample.cues import EMOTIONS
from mer_jax.data.sample.sentences import grammar, sentence
from mer_jax.text.lexicon import rank


def draw(emotion, clear, count, seed=0):
    rng = np.random.default_rng(seed)
    return [sentence(emotion, clear, rng) for _ in range(count)]


def first_ranks(sentences):
    return [rank(chinese, EMOTIONS, guess=True)[0] for chinese, _ in sentences]


def test_the_same_seed_gives_the_same_sentences():
    assert draw("happy", True, 20) == draw("happy", True, 20)
    assert draw("happy", True, 20) != draw("happy", True, 20, seed=1)


def test_both_languages_fill_the_same_slots():
    for chinese, english in (pair for templates in grammar().values() for pair in templates):
        assert set(re.findall(r"{(\w+)}", chinese)) == set(re.findall(r"{(\w+)}", english))


@pytest.mark.parametrize("clear", [True, False])
@pytest.mark.parametrize("emotion", EMOTIONS)
def test_sentences_are_whole_short_and_varied(emotion, clear):
    sentences = draw(emotion, clear, 400)
    for chinese, english in sentences:
        assert 8 <= len(chinese) <= 25
        assert not set("{}") & set(chinese + english)
        assert english.isascii() and english[0].isupper() and not chinese.isascii()
    assert len(set(sentences)) > 200


def test_every_template_of_an_emotion_is_used():
    for emotion in EMOTIONS:
        endings = {chinese[-4:] for chinese, _ in draw(emotion, True, 600)}
        assert len(endings) >= len(grammar()[emotion])


def test_a_word_list_finds_the_emotion_of_about_half_of_the_clear_sentences():
    hits = [np.mean([top == e for top in first_ranks(draw(e, True, 300))]) for e in EMOTIONS]
    assert 0.5 < np.mean(hits) < 0.66
    assert all(0.4 < hit < 0.6 for hit in hits[1:])


def test_ambiguous_sentences_give_a_word_list_nothing():
    assert set(first_ranks(draw("angry", False, 400))) == {"neutral"}
