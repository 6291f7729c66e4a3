"""One tokenizer over the two kinds of folders on the hub. No code of a folder is run, or asked to be."""

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers

from mer_jax.checkpoints.config_classes import CLIPConfig
from mer_jax.checkpoints.huggingface import read_config
from mer_jax.models.baichuan_config import CONFIG_CLASSES
from mer_jax.models.bert import BERT_CONFIGS
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.files import MOST_BYTES, load_object, open_regular


class Tokenizer:
    """Text to token ids, without special tokens: what looks like one in a text is text.

    A checkpoint's `tokenizer.json` is read by the `tokenizers` library as it stands, whatever class its config names
    (transformers rebuilds the pipeline of some). Where there is only a `tokenizer.model` (Baichuan), SentencePiece
    reads that, and where there is only a `vocab.txt` (BERT) its word pieces.

    prefix: the ids that the checkpoint was trained to see before every text: its BOS, or nothing (Baichuan, Qwen).
    suffix: those behind it; of BERT and RoBERTa alone.
    vocab_size: one more than the highest id.
    has_pipeline: whether there is a `tokenizer.json`.

    Raises:
        DataError: there is no such file, it is broken, or has more entries than the checkpoint's embedding has rows.
    """

    prefix: list[int]

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        self.suffix = list[int]()
        self.has_pipeline = (folder / "tokenizer.json").exists()
        has_model = (folder / "tokenizer.model").exists()
        if self.has_pipeline or ((folder / "vocab.txt").exists() and not has_model):
            pipeline = read_pipeline(folder) if self.has_pipeline else word_pieces(folder)
            pipeline.encode_special_tokens = True
            self._encode = lambda texts: [
                row.ids for row in pipeline.encode_batch_fast(texts, add_special_tokens=False)
            ]
            if _model_type(folder) in BERT_CONFIGS:
                self.prefix, self.suffix = _around(pipeline)
            else:
                self.prefix = _prefix(folder, pipeline)
            self.vocab_size = 1 + max(pipeline.get_vocab().values(), default=-1)
        elif has_model:
            try:
                open_regular(folder / "tokenizer.model", MOST_BYTES).close()
                processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
            except (RuntimeError, OSError) as error:
                reason = f"not a SentencePiece model ({error}); download it again."
                raise DataError(f"{folder / 'tokenizer.model'}: {reason}") from error
            self._encode = processor.encode
            adds_bos = _settings(folder).get("add_bos_token", False)
            self.prefix = [processor.bos_id()] if adds_bos else []
            self.vocab_size = processor.vocab_size()
        else:
            raise DataError(f"{folder}: no tokenizer.json, tokenizer.model or vocab.txt; use the whole checkpoint.")
        check_vocabulary(folder, self.vocab_size)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """One list of token ids per text; an empty text gives an empty list."""
        return self._encode(list(texts)) if texts else []


def clip_tokenizer(folder: Path) -> Callable[[list[str]], Mapping[str, Any]]:
    """A CLIP folder's: texts -> `{"input_ids": unpadded lists of ids}`, each with its start and end token."""
    if not (folder / "tokenizer.json").exists():  # older folders, of the vocabulary and its merges alone
        if not (folder / "vocab.json").exists():
            raise DataError(f"{folder}: no tokenizer.json or vocab.json; download the whole checkpoint.")
        try:
            from transformers import CLIPTokenizer
        except ModuleNotFoundError as error:
            raise UsageError(f"{folder}: no tokenizer.json: pip install transformers, which does without") from error
        _settings(folder)  # transformers has no word for a broken one
        return CLIPTokenizer.from_pretrained(folder)
    pipeline = read_pipeline(folder)
    check_vocabulary(folder, 1 + max(pipeline.get_vocab().values(), default=-1))
    return lambda texts: {"input_ids": [row.ids for row in pipeline.encode_batch_fast(texts)]}


def read_pipeline(folder: Path) -> tokenizers.Tokenizer:
    """A folder's `tokenizer.json`, without the padding and cutting that it may ask for."""
    file = folder / "tokenizer.json"
    try:
        open_regular(file, MOST_BYTES).close()
        pipeline = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no other kind
        raise DataError(f"{file}: the tokenizers library cannot read it ({error}); download it again.") from error
    pipeline.no_padding()
    pipeline.no_truncation()
    return pipeline


def word_pieces(folder: Path) -> tokenizers.Tokenizer:
    """A BERT folder's `vocab.txt`, as transformers' `BertTokenizer` reads it."""
    file, settings = folder / "vocab.txt", _settings(folder)
    try:
        open_regular(file, MOST_BYTES).close()
        vocabulary = tokenizers.models.WordPiece.read_file(str(file))
        pipeline = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
        begin, end = (("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"]))
    except KeyError as error:
        raise DataError(f"{file}: has no {error.args[0]}; download the whole checkpoint.") from error
    except Exception as error:  # the library raises no other kind
        raise DataError(f"{file}: the tokenizers library cannot read it ({error}); download it again.") from error
    pipeline.normalizer = tokenizers.normalizers.BertNormalizer(
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    pipeline.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    pipeline.post_processor = tokenizers.processors.BertProcessing(end, begin)
    return pipeline


def check_vocabulary(folder: Path, entries: int) -> None:
    """Raises DataError if a tokenizer has ids beyond the embedding of the model beside it, if there is one."""
    if (folder / "config.json").exists():
        config = read_config(folder, {**CONFIG_CLASSES, **BERT_CONFIGS, "clip": CLIPConfig})
        rows = config.get_text_config().vocab_size
        if entries > rows:
            raise DataError(
                f"{folder}: the tokenizer has {entries:,} entries, but the embedding has {rows:,} rows (vocab_size in "
                "config.json): they belong to different models; download the whole checkpoint."
            )


def _settings(folder: Path) -> dict[str, Any]:
    """What `tokenizer_config.json`, and in older folders `special_tokens_map.json`, say."""
    files = [folder / "special_tokens_map.json", folder / "tokenizer_config.json"]
    return dict(ChainMap(*(load_object(file) for file in reversed(files) if file.exists())))


def _model_type(folder: Path) -> Any:
    """What `config.json` says, if there is one."""
    file = folder / "config.json"
    return load_object(file).get("model_type") if file.exists() else None


def _around(pipeline: tokenizers.Tokenizer) -> tuple[list[int], list[int]]:
    """What a pipeline puts before and behind every text."""
    ids = pipeline.encode("").ids  # of the special tokens alone
    return ids[:1], ids[1:]


def _prefix(folder: Path, pipeline: tokenizers.Tokenizer) -> list[int]:
    """The BOS that a folder names, if its pipeline or its config puts it before a text; once, if both do."""
    settings = _settings(folder)
    bos = settings.get("bos_token")
    bos = bos.get("content") if isinstance(bos, dict) else bos
    number = pipeline.token_to_id(bos) if isinstance(bos, str) else None
    adds_bos = settings.get("add_bos_token") or pipeline.encode("a").ids[:1] == [number]
    return [number] if adds_bos and number is not None else []
