"""Transcripts -> emotion rankings, by a language model or a word list, into the cache that every run reads.

    python -m mer_jax.annotate --config=configs/semi.py [--workdir=DIR] [--dry-run]
        [--config.ranking.annotator=openai --config.ranking.openai.model=NAME ...]

Says first what it will ask and what that may cost; --dry-run ends there. Can be killed and started again: only what
has no answer yet is asked. `rankings.csv` in the workdir lists each clip's ranking, or why it has none.
"""

from absl import flags

from mer_jax.runtime import cli
from mer_jax.settings import Settings

DRY_RUN = flags.DEFINE_bool("dry-run", False, "Only say what would be asked and what it may cost.")
cli.parse_run_flags(__name__, Settings)

from collections import Counter
from pathlib import Path

from ml_collections import ConfigDict

from mer_jax.checkpoints.huggingface import fetch
from mer_jax.features.inputs import seen_dataset
from mer_jax.preflight import preflight
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.lock import hold
from mer_jax.runtime.settings import read_settings
from mer_jax.text.rankings import added_tokens, rank_transcripts, write_rankings
from mer_jax.text.tokenizer import Tokenizer
from mer_jax.text.transcripts import transcribe_clips


def main(config: ConfigDict, workdir: Path) -> None:
    """The command."""
    settings = read_settings(Settings, config)
    if not settings.reads_rankings:
        raise UsageError("nothing would read rankings: this config encodes no text (see modalities and text_feature)")
    dataset = None
    if not DRY_RUN.value:
        dataset = preflight(settings, workdir, ("text",), learns=False, weights=False)
        hold(workdir)
    dataset = seen_dataset(settings, dataset)
    clips = dataset.clips
    if settings.transcribes:
        clips = transcribe_clips(clips, settings.transcripts, settings.extraction, DRY_RUN.value).clips
    rankings = rank_transcripts(clips, dataset.labels, settings.ranking, DRY_RUN.value)
    if DRY_RUN.value:
        return
    path = workdir / "rankings.csv"
    write_rankings(path, clips, rankings)
    total = len(rankings.ranked) + len(rankings.failures)
    print(f"{len(rankings.ranked):,} of {total:,} distinct transcripts ranked by {rankings.annotator}")
    for reason, count in Counter(rankings.failures.values()).most_common():
        print(f"  {count:,} without: {reason}")
    if rankings.ranked:
        tokenizer = Tokenizer(fetch(settings.encoders.text.source, weights=False))
        tokens = added_tokens(rankings.ranked, tokenizer, settings.ranking.template)
        print(
            f"a ranking adds {tokens['added']:.1f} tokens on average, at most {tokens['most']}, "
            f"to a transcript of {tokens['transcript']:.1f}"
        )
    print(path)


if __name__ == "__main__":
    cli.run_configured(main)
