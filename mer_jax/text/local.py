"""The local annotator: a decoder of ours scores each label by log-likelihood, with no server and no key.

A template of `templates.py` makes one text per label, whose ranking begins with it. A label's score is how much
more likely transcript and label are together than apart: the log-likelihood of its text from where the labels' texts
part, less the same without transcript. This takes out how common a label's word is (Holtzman et al. 2021, "Surface
Form Competition"), and holds for templates that ask for the label as for those that begin with it (Min et al. 2022,
"Noisy Channel Language Model Prompting").
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, takewhile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from mer_jax.checkpoints.huggingface import fetch, fingerprint
from mer_jax.models.baichuan import Baichuan
from mer_jax.runtime.devices import frozen_program, local_mesh
from mer_jax.runtime.profiling import step
from mer_jax.text.answers import Answer, Usage
from mer_jax.text.ranking_settings import LocalSettings
from mer_jax.text.templates import join
from mer_jax.text.tokenizer import Tokenizer

GROUP = 256  # transcripts between two looks at what is wanted next


def log_likelihood(model: Baichuan, token_ids: jax.Array, starts: jax.Array, lengths: jax.Array) -> jax.Array:
    """Nats of the tokens from `starts` to `lengths` [B] (at least 1) of each row of `token_ids` [B, L], float32 [B]."""
    hidden = model(token_ids, lengths, keep_layers=1).hidden_states[-1]  # [B, L, D]

    def row(inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        states, targets = inputs
        logits = model.logits(states).astype(jnp.float32)  # [L - 1, V], of one row at a time: V is large
        return jax.nn.logsumexp(logits, axis=-1) - jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]

    nats = jax.lax.map(row, (hidden[:, :-1], token_ids[:, 1:]))  # [B, L - 1]
    positions = jnp.arange(1, token_ids.shape[1])
    return -nats.sum(-1, where=(starts[:, None] <= positions) & (positions < lengths[:, None]))


class LocalAnnotator:
    """Ranks labels by what a language model makes of them."""

    name = "local"
    stopped = ""

    def __init__(self, settings: LocalSettings):
        folder = fetch(settings.source)
        self.settings, self.prompt = settings, settings.template
        self.model = f"{settings.source}@{fingerprint(folder)[:12]}-{settings.dtype}"
        self.tokenizer = Tokenizer(folder)

    def plan(self, transcripts: Sequence[str], labels: Sequence[str], spent: Usage) -> str:
        rows = [self._rows(text, labels) for text in transcripts]
        tokens = sum(len(row) for group, _ in rows for row in group)
        return f"{len(transcripts) * len(labels):,} texts of {tokens:,} tokens in all, computed here: nothing to pay"

    def rank(self, transcripts: Iterable[str], labels: Sequence[str], spent: Usage) -> Iterator[Answer]:
        """See `Annotator`."""
        transcripts = iter(transcripts)
        settings, mesh = self.settings, local_mesh()
        impl = settings.attention
        model = Baichuan.from_pretrained(settings.source, settings.dtype, mesh, lm_head=True, attention_impl=impl)
        program = frozen_program(model, log_likelihood)
        without = self._score([""], labels, program)
        for group in takewhile(bool, iter(lambda: list(islice(transcripts, GROUP)), None)):
            scores = self._score(group, labels, program) - without  # [N, C]
            for transcript, own in zip(group, scores, strict=True):
                reply = json.dumps({label: round(float(x), 4) for label, x in zip(labels, own, strict=True)})
                order = np.argsort(-own, kind="stable") if np.isfinite(own).all() else ()
                ranking = tuple(labels[i] for i in order) or None
                yield Answer(transcript, ranking, "" if ranking else "the log-likelihood is not finite", reply)

    def _rows(self, transcript: str, labels: Sequence[str]) -> tuple[list[list[int]], int]:
        """Token ids of each label's text, and how many they begin with in common. Long transcripts are cut."""
        limit = max(self.settings.buckets_tokens)
        while True:
            rankings = [sorted(labels, key=lambda other: other != label) for label in labels]
            rows = self.tokenizer.encode([join(ranking, transcript, self.prompt) for ranking in rankings])
            rows = [[*self.tokenizer.prefix, *row] for row in rows]
            longest = max(map(len, rows))
            if longest <= limit:
                break
            transcript = transcript[: int(len(transcript) * limit / longest) - 1]
        columns = zip(*rows, strict=False)
        return rows, sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))

    def _score(self, transcripts: Sequence[str], labels: Sequence[str], program: Any) -> np.ndarray:
        """Log-likelihoods [N, C] of the labels' texts from where they part."""
        texts = [(row, start) for text in transcripts for rows, start in [self._rows(text, labels)] for row in rows]
        buckets = np.array(self.settings.buckets_tokens)
        bucket_of = np.searchsorted(buckets, [len(row) for row, _ in texts])
        scores = np.zeros(len(texts), np.float32)
        for bucket in np.unique(bucket_of):
            mine = np.flatnonzero(bucket_of == bucket)
            devices = len(jax.local_devices())
            size = devices * max(1, self.settings.batch_tokens // int(buckets[bucket] * devices))
            for start in range(0, len(mine), size):
                batch = mine[start : start + size]
                ids = np.zeros((size, buckets[bucket]), np.int32)
                starts, lengths = np.ones((2, size), np.int32)
                for i, position in enumerate(batch):
                    row, starts[i] = texts[position]
                    ids[i, : len(row)], lengths[i] = row, len(row)
                sharding = NamedSharding(local_mesh(), PartitionSpec("data"))
                arrays = jax.device_put((ids, starts, lengths), sharding)
                scores[batch] = np.asarray(step("ranking", start, program, *arrays))[: len(batch)]
        return scores.reshape(len(transcripts), len(labels))
