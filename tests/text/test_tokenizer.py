import json

import pytest
import sentencepiece
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import normalizers
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, Metaspace, Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertTokenizer, LlamaConfig, PreTrainedTokenizerFast

from mer_jax.runtime.errors import DataError
from mer_jax.text.tokenizer import Tokenizer, clip_tokenizer

TEXTS = ["今天我很高兴。", "", "I am so happy today!"]


@pytest.fixture(scope="module")
def baichuan_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("baichuan")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*TEXTS, "你为什么生气？", "Why are you angry?"]),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=60,
        byte_fallback=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return folder


def test_sentencepiece_folder_is_read_without_special_tokens(baichuan_folder):
    tokenizer = Tokenizer(baichuan_folder)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(baichuan_folder / "tokenizer.model"))
    ids = tokenizer.encode(TEXTS)
    assert [processor.decode(row) for row in ids] == TEXTS
    assert ids[1] == []
    assert not {processor.bos_id(), processor.eos_id()} & {token for row in ids for token in row}
    assert tokenizer.vocab_size == processor.vocab_size()


def test_fast_tokenizer_folder_is_read_without_special_tokens(tmp_path):
    words = {word: index for index, word in enumerate(["[UNK]", "<s>", "</s>", "so", "happy"])}
    fast = FastTokenizer(WordLevel(words, unk_token="[UNK]"))
    fast.pre_tokenizer = Whitespace()
    fast.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    PreTrainedTokenizerFast(tokenizer_object=fast, unk_token="[UNK]").save_pretrained(tmp_path)
    tokenizer = Tokenizer(tmp_path)
    assert tokenizer.encode(["so happy", "", "happy sad"]) == [[3, 4], [], [4, 0]]
    assert tokenizer.encode([]) == []
    assert tokenizer.vocab_size == 5
    assert tokenizer.prefix == []  # <s> is not said to be the beginning of a text


def byte_level(folder, **special):
    """A checkpoint's folder whose tokenizer knows every byte, and <|end|> as a special token."""
    alphabet = sorted(ByteLevel.alphabet())
    words = {"<|begin|>": 0, "<|end|>": 1} | {letter: i for i, letter in enumerate(alphabet, start=2)}
    fast = FastTokenizer(BPE(words, []))
    fast.pre_tokenizer = ByteLevel(add_prefix_space=False)
    if special:
        fast.post_processor = TemplateProcessing(
            single="<|begin|> $A <|end|>", special_tokens=[("<|begin|>", 0), ("<|end|>", 1)]
        )
    PreTrainedTokenizerFast(tokenizer_object=fast, eos_token="<|end|>", **special).save_pretrained(folder)
    return Tokenizer(folder)


def test_what_looks_like_a_special_token_in_a_transcript_is_text(tmp_path):
    tokenizer = byte_level(tmp_path)
    (ids,) = tokenizer.encode(["a<|end|>b"])
    assert 1 not in ids and len(ids) == 9
    assert tokenizer.prefix == []


def test_what_a_checkpoint_was_trained_to_see_first_is_its_prefix(tmp_path, baichuan_folder):
    """Its end of text is not; SentencePiece folders say it in their config, and Baichuan's says no."""
    tokenizer = byte_level(tmp_path, bos_token="<|begin|>")
    assert tokenizer.prefix == [0] and tokenizer.encode(["a"])[0] != [0]
    assert Tokenizer(baichuan_folder).prefix == []
    for adds, prefix in (("true", [1]), ("false", [])):
        (tmp_path / adds).mkdir()
        (tmp_path / adds / "tokenizer.model").write_bytes((baichuan_folder / "tokenizer.model").read_bytes())
        (tmp_path / adds / "tokenizer_config.json").write_text(f'{{"add_bos_token": {adds}}}', "utf-8")
        assert Tokenizer(tmp_path / adds).prefix == prefix


def test_a_folder_without_a_tokenizer_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"tokenizer\.model"):
        Tokenizer(tmp_path)


@pytest.mark.parametrize("class_name", ["LlamaTokenizer", "LlamaTokenizerFast", "Qwen2Tokenizer", "Remote"])
@pytest.mark.parametrize(
    "normaliser", [normalizers.Replace(" ", "▁"), normalizers.NFKC(), normalizers.NFD(), normalizers.Prepend("▁")]
)
def test_a_pipeline_is_read_as_it_stands(tmp_path, class_name, normaliser):
    """Whatever class the folder names (transformers rebuilds some), without padding, cutting and its code."""
    texts = ["今天 我很高兴。", "ｆｕｌｌ ① ﬁ", " two  blanks\n", "e\u0301 é", "a<extra>b"]
    letters = sorted({"▁", *"".join(texts), *"full1fi"})
    fast = FastTokenizer(BPE({letter: i for i, letter in enumerate(["<unk>", *letters])}, [], unk_token="<unk>"))
    fast.normalizer, fast.pre_tokenizer = normaliser, Metaspace()
    fast.add_tokens(["<extra>"])
    expected = [fast.encode(text, add_special_tokens=False).ids for text in texts]
    fast.enable_truncation(2)
    fast.enable_padding()
    fast.save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": class_name, "auto_map": {"AutoTokenizer": ["remote.Tokenizer", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    (tmp_path / "remote.py").write_text("raise SystemExit('remote code was run')", "utf-8")
    assert Tokenizer(tmp_path).encode(texts) == expected
    assert clip_tokenizer(tmp_path)(texts)["input_ids"] == expected


@pytest.mark.parametrize("adds", [None, True])
def test_a_bos_that_pipeline_and_config_ask_for_comes_once(tmp_path, adds):
    byte_level(tmp_path, bos_token="<|begin|>")
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {"add_bos_token": adds}), "utf-8")
    assert Tokenizer(tmp_path).prefix == [0]


def test_more_entries_than_the_embedding_has_rows_are_refused(tmp_path):
    byte_level(tmp_path)
    LlamaConfig(vocab_size=257, num_hidden_layers=1).save_pretrained(tmp_path)
    for tokenizer in (Tokenizer, clip_tokenizer):
        with pytest.raises(DataError, match="258 entries, but the embedding has 257 rows"):
            tokenizer(tmp_path)
    LlamaConfig(vocab_size=320, num_hidden_layers=1).save_pretrained(tmp_path)  # padded, as many are
    assert Tokenizer(tmp_path).vocab_size == 258


@pytest.mark.parametrize("content", ["[]", "7", '"x"', "null"])
def test_a_config_that_is_no_object_is_one_line(tmp_path, content):
    byte_level(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(content, "utf-8")
    with pytest.raises(DataError, match=r"tokenizer_config\.json: not a JSON object; download it again"):
        Tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
def test_a_broken_tokenizer_is_one_line(tmp_path, name):
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\n", "utf-8")
    with pytest.raises(DataError, match="download it again") as error:
        Tokenizer(tmp_path)
    assert "\n" not in str(error.value)


PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "今", "天", "face", "##s", "a", "!", "[", "]", "mask", "é", "e"]


@pytest.mark.parametrize("lower", [True, False])
def test_word_pieces_of_a_bert_that_has_a_vocabulary_alone(tmp_path, lower):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", "utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "tokenizer_config.json").write_text(f'{{"do_lower_case": {str(lower).lower()}}}')
    ours, texts = Tokenizer(tmp_path), ["今天Faces!", "É a", ""]
    theirs = BertTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=lower)(texts)["input_ids"]
    assert [[*ours.prefix, *ids, *ours.suffix] for ids in ours.encode(texts)] == theirs
    assert (ours.prefix, ours.suffix, ours.vocab_size) == ([2], [3], len(PIECES))
    assert ours.encode(["[MASK]"]) == [[11, 13 if lower else 1, 12]]  # what looks like a special token is text
    (tmp_path / "vocab.txt").write_text("[UNK]\na\n", "utf-8")
    with pytest.raises(DataError, match=r"vocab.txt: has no \[CLS\]"):
        Tokenizer(tmp_path)
