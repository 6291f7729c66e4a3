"""One tokenizer over the two kinds of folders on the hub."""

from collections.abc import Sequence
from pathlib import Path

import sentencepiece
from transformers import AutoTokenizer

from mer_jax.runtime.errors import DataError


class Tokenizer:
    """Text to token ids, without special tokens: no BOS, no EOS.

    A checkpoint's folder with a `tokenizer.json` is read by transformers; with only a `tokenizer.model` (Baichuan) by
    SentencePiece itself, so that no remote code is needed. With neither it is a DataError.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        if (folder / "tokenizer.json").exists():
            tokenizer = AutoTokenizer.from_pretrained(folder)
            self._encode = lambda texts: tokenizer(texts, add_special_tokens=False)["input_ids"]
            self.vocab_size = len(tokenizer)
        elif (folder / "tokenizer.model").exists():
            processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
            self._encode = processor.encode
            self.vocab_size = processor.vocab_size()
        else:
            raise DataError(f"{folder}: no tokenizer.json or tokenizer.model; download the whole checkpoint.")

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """One list of token ids per text; an empty text gives an empty list."""
        return self._encode(list(texts)) if texts else []
