"""Which annotator ranks, and how it is set up."""

from dataclasses import dataclass

from mer_jax.checkpoints.huggingface import DTYPES, wrong_source
from mer_jax.runtime.settings import section, setting
from mer_jax.text.answers import Annotator
from mer_jax.text.lexicon import LexiconAnnotator
from mer_jax.text.prompts import PROMPTS
from mer_jax.text.templates import TEMPLATES


@dataclass(frozen=True)
class ChatSettings:
    """Any server of chat completions: `config.ranking.openai`. Its key comes from $OPENAI_API_KEY alone."""

    base_url: str = setting("")  # empty: $OPENAI_BASE_URL, or OpenAI
    model: str = setting("gpt-4o-mini")
    prompt: str = setting("zh-1", choices=tuple(PROMPTS))
    max_tokens: int = setting(200, least=1)  # of a reply
    concurrency: int = setting(32, least=1)  # requests under way at any time
    timeout_s: float = setting(60.0, least=0)
    attempts: int = setting(6, least=1)  # of a request that the server fails
    max_requests: int = setting(0, least=0)  # over all starts with this cache; 0: any number
    max_cost: float = setting(0.0, least=0)  # likewise, in the currency of the prices
    input_price: float = setting(0.15, least=0)  # per million tokens
    output_price: float = setting(0.60, least=0)


@dataclass(frozen=True)
class LocalSettings:
    """A language model that ranks without a server: `config.ranking.local`."""

    source: str = setting("Qwen/Qwen2.5-7B-Instruct", wrong=wrong_source)
    template: str = setting("zh-ask-1", choices=tuple(TEMPLATES))
    dtype: str = setting("bfloat16", choices=DTYPES)
    buckets_tokens: tuple[int, ...] = setting((64, 128, 512))
    batch_tokens: int = setting(16384, least=1)


@dataclass(frozen=True)
class RankingSettings:
    """Who ranks the emotions for each transcript, and how the text encoder reads it: `config.ranking`."""

    annotator: str = setting("lexicon", choices=("lexicon", "local", "openai", "none"))  # "none": transcripts alone
    template: str = setting("zh-1", choices=tuple(TEMPLATES))  # how a ranking and its transcript are joined
    cache: str = setting("")  # folder of the answers; empty: rankings in $MER_JAX_CACHE or ~/.cache/mer_jax
    openai: ChatSettings = section(ChatSettings)
    local: LocalSettings = section(LocalSettings)


def make_annotator(settings: RankingSettings) -> Annotator | None:
    """The annotator of the settings; None for "none"."""
    if settings.annotator == "local":
        from mer_jax.text.local import LocalAnnotator

        return LocalAnnotator(settings.local)
    if settings.annotator == "openai":
        from mer_jax.text.chat import ChatAnnotator

        return ChatAnnotator(settings.openai)
    return LexiconAnnotator() if settings.annotator == "lexicon" else None
