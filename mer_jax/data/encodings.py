"""Which encoding a table's bytes are in, where its text tells.

GB18030 decodes nearly anything, and so do the 8-bit encodings: that one does proves nothing. An encoding is believed
where the text that it gives is plausible: words in one case and script, with letters of one language's alphabet; or,
in the scripts of thousands of characters, mostly the commonest. Encodings that are believed must agree on the text.
"""

import codecs
import re
import unicodedata
from collections.abc import Iterable

# The commonest by wordfreq (https://github.com/rspeer/wordfreq), and those of feelings and exclamations.
HANZI = (
    "的是一在不人有了我国这为中个大会们他来和年上以要到时对么能你就发可地生家出也说于学后成与过行用日多自现都没作"
    "下得开经还法动好方而公子事分之民主里政看吗本月所天新业同全定部最其进如前机美那当工关实小被但因长样理等什道去"
    "些面很心间区内电然力起体只着从并者高加想文问种员重及点将意合产三外由市无女已制网第情场名应西代正表真此位题相"
    "明资计建利系化期特性度果次给让两通教任比该东活手世提或使她物数立认怎知结入更总务话斯统目社展战做设安别信影己"
    "受解军司回把保平常见向海变报治台爱品北何接界论组件权选府议少它共运车至记又原金身式老路决科联视口处各持站量交"
    "万直反南打据基始再快水门十感程导传院才放今术强元完号图规改管划亚领际单头二尔需布达队片求非历每书指马广党几太"
    "先带游城办球色觉义级师专类约集告技团取儿参克史服格候调包请德必拉乐许造确气难吧收证称语山死线示条像流命根则近"
    "济京听英士价推标举争友干支委四续况准形男望官喜怒哀悲伤恐惧惊讶厌恶愤静焦虑担忧兴谢嗯哦啊呢嘛哈啦呀妈爸哥姐弟"
    "妹您咱啥哎唉嘿喂哪谁"
)
TRADITIONAL = (
    "國這為個會們來時對麼發說於學後與過現沒開經還動裡嗎業進機當關實長樣間區內電體著從並問種員點將產無網場應題資計"
    "給讓兩該東數認結總務話統戰設別軍見變報臺愛論組權選議運車記決聯視處萬據門導傳術強號圖規劃亞領際單頭爾達隊歷書"
    "馬廣黨幾帶遊辦覺義級師專類約團兒參調請樂許確氣難證稱語線條則濟聽價標舉爭幹續況準傷懼驚訝厭惡憤靜慮擔憂興謝媽"
    "餵誰"
)
KANJI = "言思気発画実私対良関変戦食俺楽味考初様田付違連番売仕神聞終悪続料野切円彼買引経送"
HANGUL = (
    "이다는에하고가을지의로서은아한어도기사니있를나해리시그요인들자일게대라으스수만보제면정주전부여거과장했상안마"
    "구었데오야내원우신적것성국되세위와무할동생소트드모미진문중말화공까러비습간없분조저입개터유계치월같경회선년때"
    "연실바음관용더명학네영교당작좋방려않합래발건된단재며각운금람행남물알차등통번르던두타후프겠체크랑식히너산역버"
    "임호포예결반잘님함심속업본레파직디감처런카못노았군받배매출양표피살든현많른법슬퍼복놀났"
)
HAN = frozenset(HANZI + TRADITIONAL)
KANA = frozenset(map(chr, range(0x3041, 0x30FF)))  # which GB18030 writes as EUC-JP does: they tell neither
COMMON = {
    "gb18030": HAN | KANA,
    "big5": HAN,
    "cp932": HAN | KANA | frozenset(KANJI),
    "euc_jp": HAN | KANA | frozenset(KANJI),
    "cp949": frozenset(HANGUL),
}
PINYIN = "āáǎàēéěèīíǐìōóǒòūúǔùǖǘǚǜü"
MARKS = frozenset(
    PINYIN
    + "·—…‘’“”、。，．・：；？！（）「」『』《》〈〉【】〔〕［］～〜￥％ー々\u3000"
    + "".join(map(chr, range(0xFF10, 0xFF5B)))
)

ALPHABETS = {  # letters beside a to z, of one language each
    "cp1252 mac_roman cp850 cp861": (
        "àâæçéèêëîïôœùûü äöüß áéíñóúü àáâãçéêíóôõú àèéìòù åäöé æøåéèêóòô áèéëíïóöü áðéíóúýþæö"
    ),
    "cp1250 iso8859_2 cp852 mac_latin2 iso8859_16": (
        "ąćęłńóśźż áčďéěíňóřšťúůýž áäčďéíľňóôšťúýž áéíóöőúüű čćđšž ăâîşţ ăâîșț äöüß"
    ),
    "iso8859_3": "ĉĝĥĵŝŭ ċġħż",
    "cp1254": "âçğıîöşüû",
    "cp1257 iso8859_4 cp775": "ąčęėįšųūž āčēģīķļņšūž äõöüšž",
    "cp1251 koi8_r cp866 iso8859_5 mac_cyrillic": (
        "абвгдежзийклмнопрстуфхцчшщъыьэюяё абвгдежзийклмнопрстуфхцчшщьюяґєії "
        "абвгдежзйклмнопрстуфхцчшыьэюяёіў абвгдежзиклмнопрстуфхцчшђјљњћџ"
    ),
    "cp1253": "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ",
    "cp1255": "אבגדהוזחטיךכלםמןנסעףפץצקרשת",
    "cp1256": "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىيپچژگ",
}
CYRILLIC = next(alphabets for names, alphabets in ALPHABETS.items() if "cp866" in names).split()
TELLING = 4  # letters of a word that can tell an alphabet
MANY = 12  # letters of such words that tell one where the bytes could be pairs
# Of Greek words the accented ones, which all long words have; of scripts without vowels all letters.
VOWEL = re.compile("[aeiouyàâæéèêëîïôœùûüäöáíóúãõìòåøýąęěůőăıėįųūāēīаеёиоуыэюяєіїάέήίόύώא-ی]")
WORD = re.compile(r"[^\W\d_]+")
GLUED = re.compile("[a-z][^\\W\\d_a-zA-Z]|[^\\W\\d_a-zA-Z][a-z]|[ｦ-ﾟ]")
SIGNS = "€£©®™°§№•¿¡"  # which stand before or behind words
QUOTES = "‘’“”„«»‹›–—…·؟،؛\xa0"
ACCENTS = "[άέήίόύώΐΰ]"
MISPLACED = re.compile(
    rf"[^\W\d_][{SIGNS}]|[{SIGNS[:-2]}][^\W\d_]|[^\W\d_][{QUOTES.replace('’', '')}]+[^\W\d_]"
    rf"|[^\W\d_]‹|›[^\W\d_]"
    r"|(?<![\w.,!?…])[«„](?![^«„]*[»“”])|»(?=\w)(?![^»]*«)"  # without its other half
    rf"|[ςךםןףץ][^\W\d_]|{ACCENTS}\w*{ACCENTS}"  # final letters, and a word's one accent
)
EVERYDAY = frozenset("".join(ALPHABETS.values()) + "".join(ALPHABETS.values()).upper()).union(*COMMON.values()) - {" "}
SHIFTS = re.compile(rb"[\x0e\x0f\x1b]")
SEVEN_BIT = {"hz": re.compile(rb"~\{[!-~]{2,}?~\}"), "utf-7": re.compile(rb"\+[A-Za-z0-9+/]{3,}")}
FEW = 2, 6  # characters of UTF-8, of two bytes each, that may be so by chance
OTHER_FILES = {
    b"PK\3\4": "an Excel workbook (or a zip archive)",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\x1f\x8b": "packed by gzip",
}
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16's, with which it begins
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def decode(raw: bytes) -> tuple[str, str]:
    """The text of a file whose separators and digits are ASCII, without its byte order mark; and its encoding.

    Raises:
        UnicodeError: nothing tells the encoding, or it is not the one that the file says. The message says which.
    """
    if kind := next((kind for magic, kind in OTHER_FILES.items() if raw.startswith(magic)), ""):
        raise UnicodeError(f"{kind}, not a csv")
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if raw.startswith(mark)), "")
    if not encoding and raw.count(0) > len(raw) / 10:  # halves and quarters of ASCII characters
        quarters = [raw[place::4].count(0) > len(raw) / 8 for place in range(4)]
        encoding = ("utf-32-be" if quarters[0] else "utf-32-le") if quarters[1] and quarters[2] else ""
        encoding = encoding or ("utf-16-be" if raw[::2].count(0) > raw[1::2].count(0) else "utf-16-le")
    if encoding:
        try:
            return raw.decode(encoding).removeprefix("\ufeff"), encoding
        except UnicodeDecodeError as error:
            raise UnicodeError(f"{encoding.upper()} but for its byte {error.start}") from error
    if seven_bit := decoded_seven_bit(raw):
        return seven_bit
    try:
        text = raw.decode("utf-8")
        if is_by_chance(text, raw):
            raise UnicodeError("UTF-8 by its bytes, but too short to tell, and its text is no word")
        return text, "utf-8"
    except UnicodeDecodeError as error:
        shown = [character for character in raw.decode("utf-8", "replace") if not character.isascii()]
        if shown.count("\ufffd") < len(shown) / 2:
            raise UnicodeError(f"UTF-8 but for its byte {error.start}") from error
    texts = believed(raw)
    if not texts:
        raise UnicodeError(f"neither UTF-8 nor {listed([*COMMON, *ALPHABETS])}: in none of them it reads as words")
    if len(set(texts.values())) > 1:
        raise UnicodeError(f"not UTF-8, and reads as words in each of {listed(texts)}")
    (encoding, text), *_ = texts.items()
    if not is_sure(raw, encoding, text):
        raise UnicodeError(f"not UTF-8, and too short to tell whether it is {listed(texts)}")
    return text, encoding


def listed(encodings: Iterable[str]) -> str:
    """The encodings in a line."""
    return ", ".join(encodings).upper().replace(" ", ", ").replace(",,", ",")


def decoded_seven_bit(raw: bytes) -> tuple[str, str] | None:
    """The text of a file in an encoding that writes other characters as ASCII ones, and the encoding; None of others.

    Raises:
        UnicodeError: it looks like one, and is none that is known.
    """
    if not raw.isascii():
        return None
    if SHIFTS.search(raw):
        for encoding in ("iso2022_jp_ext", "iso2022_jp_2", "iso2022_jp_2004", "iso2022_kr"):
            if (text := decoded(raw, encoding)) and not SHIFTS.search(text.encode()):
                return text, encoding
        raise UnicodeError("in an encoding with escapes (ISO-2022) that is not known")
    for encoding, pattern in SEVEN_BIT.items():
        text = decoded(raw, encoding) if pattern.search(raw) else ""
        if not text.isascii():
            if is_common(text, EVERYDAY):
                return text, encoding
            if sum(not character.isascii() for character in text) > 2:  # by chance one or two: "pos+neg" is UTF-7
                raise UnicodeError(f"{encoding.upper()} by its bytes, but its text is no words")
    return None


def is_by_chance(text: str, raw: bytes) -> bool:
    """Whether UTF-8 may be a word or two in pairs of bytes: it mixes scripts, or is no word where those are common."""
    others = [character for character in text if not character.isascii()]
    if is_dos_by_chance(others, raw):
        return True
    if not FEW[0] <= len(others) <= FEW[1] or not MARKS.isdisjoint(others) or max(others) >= "\u0800":
        return False
    pairs = {encoding: pair for encoding in COMMON if could_be(pair := decoded(raw, encoding))}
    if not pairs:
        return False
    for word in re.findall(r"(?<![A-Za-z]|[^\x00-\x7f])[^\x00-\x7f]+", text):
        scripts = {unicodedata.name(c, "").split(" ")[0] for c in word if c.isalpha()}
        if len(scripts) > 1 or unicodedata.combining(word[0]):
            return True
    if not all(map(str.isalpha, others)) or any(is_spelt(text, each.split()) for each in ALPHABETS.values()):
        return False
    return any(is_common(pair, COMMON[encoding]) for encoding, pair in pairs.items())


def is_dos_by_chance(others: list[str], raw: bytes) -> bool:
    """Whether a few characters that hardly anybody writes are a Russian word of CP866 in small letters."""
    if not 0 < len(others) <= FEW[1] or min(others) < "\u0800" or any(map(is_living, others)):
        return False
    words = [word for word in WORD.findall(decoded(raw, "cp866")) if not word.isascii()]
    return bool(words) and all(word[1:].islower() and is_spelt(word, CYRILLIC) for word in words)


def is_living(character: str) -> bool:
    """Whether it is everyday, a mark, or of a script of India, the letters of which stand alone."""
    return character in EVERYDAY or character in MARKS or ("\u0900" <= character < "\u0e00" and character.isalpha())


def is_telling(text: str, least: int = TELLING) -> bool:
    """Whether words with other than ASCII letters, not in capitals, are long enough to tell an alphabet."""
    words = {word for word in WORD.findall(text) if not word.isascii() and not word.isupper()}
    return sum(len(word) for word in words if len(word) >= TELLING) >= least


def is_sure(raw: bytes, encoding: str, text: str) -> bool:
    """Whether there is enough of a plausible text: what is short may be one by chance in another encoding."""
    if encoding not in COMMON:
        pairs = any(could_be(decoded(raw, name)) for name in COMMON)
        return is_telling(text, MANY if pairs else TELLING)
    neither = KANA if encoding in ("gb18030", "euc_jp") else ()
    others = [c for c in text if not (c.isascii() or c in MARKS or c in neither)]
    return not others or is_common(others, COMMON[encoding], least=2 if encoding == "gb18030" else 4)


def believed(raw: bytes) -> dict[str, str]:
    """Encoding -> the text that it gives, where that is plausible."""
    texts = {}
    for encoding, common in COMMON.items():
        if (text := decoded(raw, encoding)) and is_common(text, common):
            texts[encoding] = text
    ideographs = bool(texts)  # against which a few letters say nothing
    for encodings, alphabets in ALPHABETS.items():
        for encoding in encodings.split():
            text = decoded(raw, encoding)
            if text and is_spelt(text, alphabets.split()) and (is_telling(text) or not ideographs):
                texts[encoding] = text
    return texts


def decoded(raw: bytes, encoding: str) -> str:
    """The text; empty where the bytes are none of this encoding."""
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return ""


def could_be(text: str) -> bool:
    """Whether a text in an encoding of pairs of bytes could be one: no character of it stands in a Latin word."""
    return bool(text) and all(map(str.isprintable, text.split())) and not GLUED.search(text)


def is_common(text: Iterable[str], common: frozenset[str], least: int = 1) -> bool:
    """Whether of the characters that are neither ASCII nor marks more than half, and `least`, are among `common`."""
    characters = [character for character in text if not (character.isascii() or character in MARKS)]
    count = sum(character in common for character in characters)
    return all(map(str.isprintable, characters)) and count > len(characters) / 2 and count >= least


def is_spelt(text: str, alphabets: list[str]) -> bool:
    """Whether the words with other than ASCII letters could be ones of a language that is written in an alphabet."""
    others = {character for character in set(text) - set(SIGNS + QUOTES) if not character.isascii()}
    if not any(others <= {*alphabet, *alphabet.upper(), "İ"} for alphabet in alphabets) or MISPLACED.search(text):
        return False
    words = {word for word in WORD.findall(text) if len(word) > 1 and not word.isascii()}
    for word in words:
        foreign = re.findall(r"[^\x00-\x7f]+", word)
        if word != word.upper() and word[1:] != word[1:].lower():
            return False  # a capital inside
        if max(map(len, foreign)) > 3 if foreign[0] < "\u0370" else foreign != [word]:
            return False  # not Latin, or two scripts
    words = {word for word in words if len(word) >= TELLING} or words
    return sum(VOWEL.search(word.lower()) is not None for word in words) >= len(words) / 2
