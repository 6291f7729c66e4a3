"""Which annotator the settings name."""

import pytest

from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.settings import read_settings
from mer_jax.text.chat import ChatAnnotator
from mer_jax.text.lexicon import LexiconAnnotator
from mer_jax.text.local import LocalAnnotator
from mer_jax.text.ranking_settings import ChatSettings, LocalSettings, RankingSettings
from mer_jax.text.rankings import make_annotator


def test_the_annotator_that_the_settings_name():
    local = LocalSettings(source="bundled/baichuan", dtype="float32")
    chat = ChatSettings(base_url="http://localhost:1", model="m")
    for guess in (False, True):
        annotator = make_annotator(RankingSettings(lexicon_guesses=guess))
        assert isinstance(annotator, LexiconAnnotator) and annotator.guess == guess
    assert make_annotator(RankingSettings(annotator="none")) is None
    annotator = make_annotator(RankingSettings(annotator="openai", openai=chat, local=local))
    assert isinstance(annotator, ChatAnnotator) and annotator.model == "m"
    annotator = make_annotator(RankingSettings(annotator="local", openai=chat, local=local))
    assert isinstance(annotator, LocalAnnotator) and annotator.prompt == "zh-ask-1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotator": "oracle"}, "annotator='oracle': unknown; known: lexicon, local, openai, none"),
        ({"template": "zh-2"}, "template='zh-2': unknown; known: zh-1"),
        ({"openai": {"prompt": "fr-1"}}, "openai.prompt='fr-1': unknown; known: zh-1"),
        ({"local": {"template": "x"}}, "local.template='x': unknown; known: zh-1"),
        ({"local": {"source": "bundled/x"}}, "local.source='bundled/x': unknown; known: bundled/baichuan"),
    ],
)
def test_unknown_names_are_refused_at_the_door(change, message):
    with pytest.raises(UsageError, match=message):
        read_settings(RankingSettings, change)
