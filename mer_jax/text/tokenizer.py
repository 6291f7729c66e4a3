"""One tokenizer over the two kinds of folders on the hub."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import sentencepiece
from transformers import AutoTokenizer

from mer_jax.runtime.errors import DataError


class Tokenizer:
    """Text to token ids, without special tokens: what looks like one in a text is text.

    A checkpoint's folder with a `tokenizer.json` is read by transformers; with only a `tokenizer.model` (Baichuan) by
    SentencePiece itself, so that no remote code is needed. With neither it is a DataError.

    prefix: the ids that the checkpoint was trained to see before every text: its BOS, or nothing (Baichuan, Qwen).
    """

    prefix: list[int]

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        if (folder / "tokenizer.json").exists():
            tokenizer: Any = AutoTokenizer.from_pretrained(folder)
            plain = partial(tokenizer, add_special_tokens=False, split_special_tokens=True)
            self._encode = lambda texts: plain(texts)["input_ids"]
            begins = tokenizer("a")["input_ids"][:1]
            self.prefix = begins if begins == [tokenizer.bos_token_id] else []
            self.vocab_size = len(tokenizer)
        elif (folder / "tokenizer.model").exists():
            processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
            self._encode = processor.encode
            config = folder / "tokenizer_config.json"
            adds_bos = config.exists() and json.loads(config.read_text("utf-8")).get("add_bos_token", False)
            self.prefix = [processor.bos_id()] if adds_bos else []
            self.vocab_size = processor.vocab_size()
        else:
            raise DataError(f"{folder}: no tokenizer.json or tokenizer.model; download the whole checkpoint.")

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """One list of token ids per text; an empty text gives an empty list."""
        return self._encode(list(texts)) if texts else []
