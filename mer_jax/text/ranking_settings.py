"""Who ranks the emotions for each transcript."""

from dataclasses import dataclass

from mer_jax.checkpoints.sources import DTYPES, wrong_source
from mer_jax.defaults import ATTENTION
from mer_jax.runtime.settings import few, section, setting
from mer_jax.text.server_settings import ServerSettings
from mer_jax.text.templates import PROMPTS, TEMPLATES


@dataclass(frozen=True)
class ChatSettings(ServerSettings):
    """Any server of chat completions: `config.ranking.openai`."""

    model: str = setting("gpt-4o-mini")
    prompt: str = setting("zh-1", choices=tuple(PROMPTS))
    max_tokens: int = setting(200, least=1)  # of a reply
    concurrency: int = setting(32, least=1)  # requests under way at any time
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
    attention: str = setting("auto", choices=ATTENTION)
    buckets_tokens: tuple[int, ...] = setting((64, 128, 512), least=1, wrong=few)
    batch_tokens: int = setting(16384, least=1)


@dataclass(frozen=True)
class RankingSettings:
    """Who ranks the emotions for each transcript, and how the text encoder reads it: `config.ranking`."""

    annotator: str = setting("lexicon", choices=("lexicon", "local", "openai", "none"))  # "none": transcripts alone
    template: str = setting("zh-1", choices=tuple(TEMPLATES))  # how a ranking and its transcript are joined
    cache: str = setting("")  # folder of the answers; empty: rankings in $MER_JAX_CACHE or ~/.cache/mer_jax
    lexicon_guesses: bool = setting(True)  # neutral first where no word speaks, as if that were a ranking
    openai: ChatSettings = section(ChatSettings)
    local: LocalSettings = section(LocalSettings)
