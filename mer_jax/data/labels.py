"""What a table's cells say: markers of what is missing, and one label in several spellings."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping

# pandas' (`read_csv`, `na_values`), Excel's errors, and what databases and people write; in small letters.
MARKERS = frozenset((
    "nan", "-nan", "nat", "na", "n/a", "n.a", "n\\a", "null", "nil", "\\n", "undefined", "missing", "not available",
    "#n/a", "#n/a n/a", "#na", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "#value", "#null", "#ref", "#div/0", "#num",
    "#name", "无", "無", "未知", "缺失", "缺",
))  # fmt: skip
BLANK = re.compile("[-‐-―−._?/*]*")
# In a transcript only what nobody says is one: there Nan, nil and None are words.
UNSAID = frozenset(("nan", "NaN", "NAN", "NaT", "<NA>", "#N/A", "N/A", "n/a", "<null>", "(null)", "<none>", "\\N")) | {
    f"#{error}" for error in ("VALUE!", "NULL!", "REF!", "DIV/0!", "NUM!", "NAME?")
}


def is_missing(cell: str) -> bool:
    """Whether a cell is empty or a marker of what is missing, in any case and width, and with marks and quotes.

    "none" is a class, but as Python writes it, None, or in brackets.
    """
    shown = unicodedata.normalize("NFKC", cell)
    bare = shown.strip(" .,;:!?\"'`‘’“”")
    word = bare.strip("<>()[]{}")
    none = word.casefold() == "none" and (word == "None" or word != bare)
    return none or word.casefold() in MARKERS or BLANK.fullmatch(shown.strip("\"'")) is not None


def spelling_key(label: str) -> str:
    """What the spellings of one label have in common.

    Case, width, Unicode form, spaces, underscores and hyphens inside, marks at the ends, and ".0" behind a number say
    nothing; a sign before a number does.
    """
    shown = "".join(c for c in unicodedata.normalize("NFKC", label) if unicodedata.category(c) != "Cf")
    words = re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", shown.casefold()).strip().strip(".,;:!?\"'。、")
    return re.sub(r"^([+-]?\d+)\.0+$", r"\1", words.strip()) or label


def rarer_spellings(counts: Mapping[str, int]) -> dict[str, str]:
    """Label -> the commonest spelling of the same label, the first of equals, for those that are spelt otherwise.

    counts: label -> its rows, in the order of the table.
    """
    spellings = defaultdict(list)
    for label in counts:
        spellings[spelling_key(label)].append(label)
    commonest = {key: max(labels, key=lambda label: counts[label]) for key, labels in spellings.items()}
    return {label: common for label in counts if (common := commonest[spelling_key(label)]) != label}
