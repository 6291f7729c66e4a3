import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_jax.text.answers import Usage
from mer_jax.text.lexicon import LexiconAnnotator, rank, score

LABELS = ("neutral", "angry", "happy", "sad", "worried", "surprise")


@settings(deadline=None)
@given(st.text(max_size=30))
def test_a_ranking_holds_every_label_once(transcript):
    assert sorted(rank(transcript, LABELS, guess=True)) == sorted(LABELS)
    assert rank(transcript, LABELS) in (None, rank(transcript, LABELS, guess=True))


@pytest.mark.parametrize(
    "transcript, label",
    [
        ("我好担心，怎么办？", "worried"),
        ("What a wonderful day", "happy"),
        ("WHAT A WONDERFUL DAY", "happy"),
        ("滚", "angry"),  # a word of one character is enough
    ],
)
def test_words_decide(transcript, label):
    assert rank(transcript, LABELS)[0] == label


def test_scores_are_the_characters_of_the_words_found():
    assert score("担心，担心，万一呢", "worried") == 6  # 担心 twice, 万一
    assert score("你哭了", "sad") == 1 and score("你哭了", "happy") == score("你哭了", "unknown") == 0
    assert score("你哭了", "neutral") == 0
    assert rank("哭也没想到", LABELS)[:3] == ("surprise", "sad", "neutral")  # 3 characters, 1, none


@pytest.mark.parametrize("labels", [("Sad", "HAPPY"), ("sadness", "Happiness"), ("Sadness", "joy")])
def test_labels_count_in_any_case_and_as_nouns(labels):
    assert rank("What a wonderful day", labels) == labels[::-1]


def test_neutral_counts_in_any_case():
    assert rank("What a wonderful day", ("sad", "Neutral", "happy")) == ("happy", "Neutral", "sad")
    assert rank("今天星期三", ("sad", "Neutral"), guess=True) == ("Neutral", "sad")


def test_where_no_word_speaks_there_is_no_ranking_unless_it_is_to_guess():
    assert rank("今天星期三", LABELS) is None
    assert rank("今天星期三", LABELS, guess=True) == LABELS
    for guess, first in ((False, None), (True, "neutral")):
        (answer,) = LexiconAnnotator(guess).rank(["今天星期三"], LABELS, Usage())
        assert (answer.ranking and answer.ranking[0]) == first
    assert LexiconAnnotator(True).prompt != LexiconAnnotator().prompt  # their answers are not each other's


def test_what_the_lexicon_knows_nothing_of_has_no_ranking_but_a_reason():
    annotator, texts = LexiconAnnotator(), ["今天星期三", "What a wonderful day"]
    answers = list(annotator.rank(texts, ("Gloom", "joy"), Usage()))
    assert [answer.ranking for answer in answers] == [None, ("joy", "Gloom")]
    assert answers[0].reason and not answers[1].reason
    assert "Gloom" in annotator.plan(texts, ("Gloom", "joy"), Usage())
    assert "no words" not in annotator.plan(texts, ("neutral", "joy"), Usage())
