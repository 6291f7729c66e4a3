"""One tokenizer over the two kinds of folders on the hub. No code of a folder is run, or asked to be."""

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

from mer_jax.checkpoints.config_classes import CLIPConfig
from mer_jax.checkpoints.huggingface import read_config
from mer_jax.models.baichuan_config import CONFIG_CLASSES
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import MOST_BYTES, load_object, open_regular


class Tokenizer:
    """Text to token ids, without special tokens: what looks like one in a text is text.

    A checkpoint's `tokenizer.json` is read by the `tokenizers` library as it stands, whatever class its config names
    (transformers rebuilds the pipeline of some). Where there is only a `tokenizer.model` (Baichuan), SentencePiece
    reads that.

    prefix: the ids that the checkpoint was trained to see before every text: its BOS, or nothing (Baichuan, Qwen).
    vocab_size: one more than the highest id.
    has_pipeline: whether there is a `tokenizer.json`.

    Raises:
        DataError: there is neither file, it is broken, or has more entries than the checkpoint's embedding has rows.
    """

    prefix: list[int]

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        self.has_pipeline = (folder / "tokenizer.json").exists()
        if self.has_pipeline:
            pipeline = read_pipeline(folder)
            pipeline.encode_special_tokens = True
            self._encode = lambda texts: [
                row.ids for row in pipeline.encode_batch_fast(texts, add_special_tokens=False)
            ]
            self.prefix = _prefix(folder, pipeline)
            self.vocab_size = 1 + max(pipeline.get_vocab().values(), default=-1)
        elif (folder / "tokenizer.model").exists():
            import sentencepiece  # which not every checkpoint needs

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
            raise DataError(f"{folder}: no tokenizer.json or tokenizer.model; download the whole checkpoint.")
        check_vocabulary(folder, self.vocab_size)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """One list of token ids per text; an empty text gives an empty list."""
        return self._encode(list(texts)) if texts else []


def clip_tokenizer(folder: Path) -> Callable[[list[str]], Mapping[str, Any]]:
    """A CLIP folder's: texts -> `{"input_ids": unpadded lists of ids}`, each with its start and end token."""
    pipeline = read_pipeline(folder) if (folder / "tokenizer.json").exists() else older_clip_pipeline(folder)
    check_vocabulary(folder, 1 + max(pipeline.get_vocab().values(), default=-1))
    return lambda texts: {"input_ids": [row.ids for row in pipeline.encode_batch_fast(texts)]}


def older_clip_pipeline(folder: Path) -> tokenizers.Tokenizer:
    """What transformers' `CLIPTokenizer` makes of a folder of the vocabulary and its merges alone."""
    if not (folder / "vocab.json").exists():
        raise DataError(f"{folder}: no tokenizer.json or vocab.json; download the whole checkpoint.")
    settings = _settings(folder)
    start, end, unknown = (
        _content(settings.get(f"{name}_token", default))
        for name, default in (("bos", "<|startoftext|>"), ("eos", "<|endoftext|>"), ("unk", "<|endoftext|>"))
    )
    try:
        vocabulary, merges = tokenizers.models.BPE.read_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
        model = tokenizers.models.BPE(vocabulary, merges, unk_token=unknown, end_of_word_suffix="</w>")
        ends = ((end, vocabulary[end]), (start, vocabulary[start]))
    except Exception as error:  # the library raises no other kind
        raise DataError(f"{folder}: no vocab.json and merges.txt of a CLIP ({error}); download it again.") from error
    pipeline = tokenizers.Tokenizer(model)
    pipeline.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    pipeline.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    pipeline.post_processor = tokenizers.processors.RobertaProcessing(*ends, trim_offsets=False, add_prefix_space=False)
    pipeline.add_special_tokens([start, end, unknown])
    return pipeline


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


def check_vocabulary(folder: Path, entries: int) -> None:
    """Raises DataError if a tokenizer has ids beyond the embedding of the model beside it, if there is one."""
    if (folder / "config.json").exists():
        config = read_config(folder, CONFIG_CLASSES | {"clip": CLIPConfig})
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


def _content(token: Any) -> Any:
    """The text of a special token, which a folder may describe instead."""
    return token.get("content") if isinstance(token, dict) else token


def _prefix(folder: Path, pipeline: tokenizers.Tokenizer) -> list[int]:
    """The BOS that a folder names, if its pipeline or its config puts it before a text; once, if both do."""
    settings = _settings(folder)
    bos = _content(settings.get("bos_token"))
    number = pipeline.token_to_id(bos) if isinstance(bos, str) else None
    adds_bos = settings.get("add_bos_token") or pipeline.encode("a").ids[:1] == [number]
    return [number] if adds_bos and number is not None else []
