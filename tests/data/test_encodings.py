"""Tables in the encodings of all the world: the text as it was written, or an error; never other characters."""

import pytest

from mer_jax.data.encodings import decode

WRITTEN = {
    "cp1252": ["une dépêche arrivée, élève", "das ist schön, ärgerlich", "mañana será otro día, señor"],
    "latin-1": ["ça alors, déjà là"],
    "mac_roman": ["une dépêche arrivée, élève"],
    "cp1250": ["Dzień dobry, jestem bardzo zły", "příliš žluťoučký kůň"],
    "cp1251": ["Привет, как дела?", "Что случилось вчера вечером?"],
    "koi8_r": ["Привет, как дела?"],
    "cp866": ["Привет, как дела?"],
    "cp1253": ["Καλημέρα, τι κάνεις;"],
    "gb18030": ["你好", "再见, 朋友", "我今天很高兴", "真的吗?怎么可能!", "妈，您听我说", "你好, é"],
    "big5": ["我今天很高興，你呢", "真的嗎？怎麼可能！"],
    "cp932": ["今日はとても嬉しいです", "ありがとうございます。", "何ですか？"],
    "cp949": ["오늘은 정말 기분이 좋아요", "안녕하세요", "화가 났어요"],
    "utf-8": ["déjà 你好"],
    "utf-8-sig": ["déjà 你好"],
    "utf-16": ["déjà 你好"],
    "utf-16-le": ["déjà 你好"],
    "utf-16-be": ["déjà 你好"],
    "utf-32": ["déjà 你好"],
}
CASES = [(encoding, text) for encoding, texts in WRITTEN.items() for text in texts]


def table(text: str) -> str:
    return f'name,label,text\r\na,happy,"{text}"\r\n'


@pytest.mark.parametrize(("encoding", "text"), CASES)
def test_short_texts_tell_their_encoding(encoding, text):
    decoded, named = decode(table(text).encode(encoding))
    assert decoded == table(text)
    assert named.startswith("utf") == encoding.startswith("utf")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "où"),  # too short
        ("cp1252", "Où est-il passé ?"),  # in cp1250 Czech by its letters
        ("euc_jp", "今日はとても嬉しいです"),  # its kana are GB18030's
        ("gb18030", "今日はとても嬉しいです"),
        ("cp1255", "שלום"),  # in cp1251 Cyrillic by its letters
        ("cp874", "สวัสดีครับ"),  # an encoding that nobody asked for yet
        ("gb18030", "你"),  # one character
        ("gb18030", "滚开"),  # in cp949 Korean, of which two characters are too few
        ("gb18030", "讨厌"),  # in cp1256 Arabic
        ("euc_jp", "ばか退屈"),  # in GB18030 common but for its kana
        ("cp932", "鰯鯖鱒"),  # no common character
    ],
)
def test_what_is_not_sure_is_refused(encoding, text):
    with pytest.raises(UnicodeError, match=r"not UTF-8|neither UTF-8 nor GB18030, BIG5"):
        decode(table(text).encode(encoding))


@pytest.mark.parametrize("spoilt", [slice(None, -4), slice(0, 0)])
def test_damaged_utf8_is_called_so(spoilt):
    raw = table("我今天很高兴").encode()
    raw = raw[spoilt] or raw.replace("天".encode(), b"\xe5\xa4")
    with pytest.raises(UnicodeError, match="UTF-8 but for its byte"):
        decode(raw)


def test_damaged_utf16_is_refused():
    with pytest.raises(UnicodeError, match="UTF-16-LE but for its byte"):
        decode(table("hi").encode("utf-16")[:-1])


def test_nothing_short_is_read_as_other_characters():
    """Each text in each encoding that can write it: as it was, or refused."""
    texts = {text for texts in WRITTEN.values() for text in texts}
    readable = 0
    for text in texts:
        for encoding in WRITTEN:
            try:
                raw = table(text).encode(encoding)
            except UnicodeEncodeError:
                continue
            try:
                assert decode(raw)[0] == table(text), (encoding, text)
                readable += 1
            except UnicodeError:
                pass
    assert readable > 150
