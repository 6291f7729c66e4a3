"""Transcripts -> rankings, by the annotator that the settings name, behind its cache."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mer_jax.checkpoints.huggingface import fetch, read_config
from mer_jax.data.clips import Clip
from mer_jax.models.baichuan_config import CONFIG_CLASSES
from mer_jax.runtime.files import cache_folder, write_csv
from mer_jax.text.answers import Annotator
from mer_jax.text.cache import AnswerCache
from mer_jax.text.lexicon import LexiconAnnotator
from mer_jax.text.ranking_settings import RankingSettings
from mer_jax.text.templates import join

if TYPE_CHECKING:
    from mer_jax.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Rankings:
    """What is known of some transcripts: labels, most likely first, or why there are none."""

    annotator: str  # with model and prompt
    ranked: Mapping[str, Sequence[str]]  # transcript -> labels
    failures: Mapping[str, str]  # transcript -> reason

    @classmethod
    def none(cls) -> "Rankings":
        return cls("none", {}, {})


def rank_transcripts(
    clips: Sequence[Clip], labels: Sequence[str], settings: RankingSettings, dry_run: bool = False
) -> Rankings:
    """The rankings of every distinct transcript, by the annotator of the settings and from its cache."""
    annotator = make_annotator(settings, asks=not dry_run)
    if annotator is None:
        return Rankings.none()
    return rank_all([clip.transcript for clip in clips], labels, annotator, answers_folder(settings), dry_run)


def make_annotator(settings: RankingSettings, asks: bool = True) -> Annotator | None:
    """The annotator of the settings; None for "none". asks: False where it only plans."""
    if settings.annotator == "local":
        from mer_jax.text.local import LocalAnnotator

        return LocalAnnotator(settings.local)
    if settings.annotator == "openai":
        from mer_jax.text.chat import ChatAnnotator

        return ChatAnnotator(settings.openai, asks)
    return LexiconAnnotator(settings.lexicon_guesses) if settings.annotator == "lexicon" else None


def check_annotator(settings: RankingSettings, transcripts: Sequence[str], labels: Sequence[str]) -> Iterator[str]:
    """What is worth knowing before the annotator is asked: what it may cost, and that its budget is short of it.

    Raises:
        UsageError: it cannot be asked: a key is missing, or prices.
        DataError: the local annotator's checkpoint, whose small files are looked at, is not one that we can follow.
    """
    if settings.annotator == "local":
        folder = fetch(settings.local.source, weights=False)
        read_config(folder, CONFIG_CLASSES)
        Tokenizer(folder)
    elif settings.annotator == "openai" and (annotator := make_annotator(settings)):
        with AnswerCache(answers_folder(settings), annotator, labels) as cache:
            if missing := cache.missing(sorted(set(transcripts) - {""})):
                plan = " ".join(annotator.plan(missing, labels, cache.spent).split())
                yield f"{annotator.name} ({annotator.model}) will be asked: {plan}"


def answers_folder(settings: RankingSettings) -> Path:
    """Where the answers are kept."""
    return Path(settings.cache).expanduser() if settings.cache else cache_folder() / "rankings"


def rank_all(
    transcripts: Sequence[str], labels: Sequence[str], annotator: Annotator, folder: Path, dry_run: bool = False
) -> Rankings:
    """Ranks the labels for every distinct transcript, asking only for what the cache in `folder` lacks.

    See `Cache.fill`. dry_run: only say what it would do.
    """
    wanted = sorted(set(transcripts) - {""})
    who = f"{annotator.name} ({annotator.model}, prompt {annotator.prompt})"
    with AnswerCache(folder, annotator, labels) as cache:
        missing = cache.missing(wanted)
        print(
            f"  {who}: {len(wanted):,} distinct transcripts, {len(wanted) - len(missing):,} answered in {cache.path}",
            file=sys.stderr,
        )
        if missing:
            print(f"  to do: {annotator.plan(missing, labels, cache.spent)}", file=sys.stderr, flush=True)
        if missing and not dry_run:
            cache.fill(missing, lambda texts: annotator.rank(texts, labels, cache.spent), "rankings", "transcript")
        answers = {text: cache.answers[text] for text in wanted if text in cache.answers}
    not_asked = annotator.stopped or "not asked yet"
    ranked = {text: answer.ranking for text, answer in answers.items() if answer.ranking}
    failures = {text: answers[text].reason if text in answers else not_asked for text in wanted if text not in ranked}
    return Rankings(who, ranked, failures)


def write_rankings(path: Path, clips: Sequence[Clip], rankings: Rankings) -> None:
    """Each clip's ranking, or why it has none, as csv."""
    failures = {"": "no transcript", **rankings.failures}
    rows = [
        (clip.name, ">".join(rankings.ranked.get(clip.transcript, ())), failures.get(clip.transcript, ""))
        for clip in clips
    ]
    write_csv(path, ("name", "ranking", "reason"), rows)


def added_tokens(ranked: Mapping[str, Sequence[str]], tokenizer: "Tokenizer | None", template: str) -> dict[str, float]:
    """Tokens of the bare transcripts, and those that joining the ranking adds: means, and the most.

    tokenizer: None where nothing is ranked.
    """
    if not ranked or tokenizer is None:
        return {"transcript": 0.0, "added": 0.0, "most": 0}
    bare = np.array([len(row) for row in tokenizer.encode(list(ranked))])
    joined = tokenizer.encode([join(ranking, text, template) for text, ranking in ranked.items()])
    added = np.array([len(row) for row in joined]) - bare
    return {"transcript": float(bare.mean()), "added": float(added.mean()), "most": int(added.max())}
