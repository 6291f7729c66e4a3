import pytest
import sentencepiece
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from mer_jax.runtime.errors import DataError
from mer_jax.text.tokenizer import Tokenizer

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


def test_a_folder_without_a_tokenizer_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"tokenizer\.model"):
        Tokenizer(tmp_path)
