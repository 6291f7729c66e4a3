"""Tables in the encodings of all the world: the text as it was written, or an error; never other characters."""

import gzip

import pytest

from mer_jax.data.encodings import decode

WRITTEN = {
    "cp1252": ["une dépêche arrivée, élève", "das ist schön, ärgerlich", "mañana será otro día, señor"],
    "latin-1": ["ça alors, déjà là"],
    "mac_roman": ["une dépêche arrivée, élève"],
    "cp1250": ["Dzień dobry, jestem bardzo zły", "příliš žluťoučký kůň", "Příště už to nikdy neříkej."],
    "cp1251": ["Привет, как дела?", "Что случилось вчера вечером?"],
    "mac_cyrillic": ["Почему ты это сделал?"],
    "cp1254": ["Çok mutluyum, seni gördüğüme sevindim."],
    "cp1256": ["لماذا فعلت هذا؟ لا أستطيع أن أصدق، هذا فظيع."],
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
    "utf-32-le": ["déjà 你好"],
    "utf-32-be": ["déjà 你好"],
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


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("iso8859_4", "Kodėl tu taip padarei?"),  # in iso8859_2 Czech by its letters
        ("iso8859_4", "Negaliu patikėti, žmonės čia tokie."),
        ("iso8859_16", "Mulțumesc, îmi pare rău"),  # in cp1250 with cedillas
        ("mac_latin2", "Proč jsi to udělal?"),  # in cp1250 with a quote for a letter
        ("cp775", "Aš labai džiaugiuosi tave matydamas."),
        ("cp861", "Hvað ertu að gera á morgun?"),
    ],
)
def test_rarer_encodings_are_read_or_refused(encoding, text):
    try:
        assert decode(table(text).encode(encoding))[0] == table(text)
    except UnicodeError as error:
        assert "in each of" in str(error)


@pytest.mark.parametrize("text", ["Ёлка", "Ёлки", "Ёлка, ёлка", "так", "уже", "сам", "хан"])
def test_short_dos_that_is_utf8_by_chance_is_refused(text):
    with pytest.raises(UnicodeError, match=r"UTF-8 by its bytes, but too short|not UTF-8|UTF-8 but for"):
        decode(table(text).encode("cp866"))


@pytest.mark.parametrize("text", ["谢谢", "凭什么", "袁泉", "谭维维"])
def test_short_gb18030_that_is_utf8_by_chance_is_refused(text):
    with pytest.raises(UnicodeError, match="UTF-8 by its bytes, but too short"):
        decode(table(text).encode("gb18030"))


@pytest.mark.parametrize(
    "text",
    [
        "é",
        "ơ",
        "tư",
        "Ես",
        "да",
        "לא",
        "نه",
        "😀",
        "E\u0301",
        "ʻōlelo",
        "饕餮",
        "救命",
        "THE\u0302\u0309",
        "मन",
        "堭 好",
        "𫪠好",
        "♥♥",
        "ъъ é",
    ],
)
def test_short_utf8_is_read(text):
    assert decode(table(text).encode()) == (table(text), "utf-8")


SEVEN_BIT = {
    "hz": "你为什么要这样做？",
    "utf-7": "déjà 你好",
    "iso2022_jp": "どうしてそんなことをしたの？",
    "iso2022_jp_ext": "ｱﾘｶﾞﾄｳ",
    "iso2022_kr": "왜 그랬어?",
}


@pytest.mark.parametrize(("encoding", "text"), SEVEN_BIT.items())
def test_encodings_that_write_as_if_in_ascii(encoding, text):
    decoded, named = decode(table(text).encode(encoding))
    assert decoded == table(text) and named[:3] == encoding[:3]


@pytest.mark.parametrize("text", ["1+1=2", "+8613800138000", "pos+neg", "C++ and so on", "~{x~}", "a+bc/d", "~~"])
def test_what_only_looks_like_them_is_as_it_is(text):
    assert decode(table(text).encode()) == (table(text), "utf-8")


def test_escapes_of_unknown_encodings_are_refused():
    with pytest.raises(UnicodeError, match="ISO-2022"):
        decode(table("\x1b[31mred").encode())


@pytest.mark.parametrize("spoilt", [slice(None, -4), slice(0, 0)])
def test_damaged_utf8_is_called_so(spoilt):
    raw = table("我今天很高兴").encode()
    raw = raw[spoilt] or raw.replace("天".encode(), b"\xe5\xa4")
    with pytest.raises(UnicodeError, match="UTF-8 but for its byte"):
        decode(raw)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"PK\3\4\x14\0", "an Excel workbook .*, not a csv"),
        (b"\xd0\xcf\x11\xe0\xa1", "an Excel workbook, not a csv"),
        (gzip.compress(b"name,label", mtime=0), "packed by gzip, not a csv"),
    ],
)
def test_what_is_no_text_is_called_so(raw, said):
    with pytest.raises(UnicodeError, match=said):
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
