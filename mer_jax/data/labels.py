"""What a table's cells say: markers of what is missing, and one label in several spellings."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping

# pandas' (`read_csv`, `na_values`), and dashes and question marks. "none" in small letters is a class.
MISSING = frozenset((
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null", "-", "--", "–", "—", "?", "??",
))  # fmt: skip
UNSAID = frozenset(("nan", "NaN", "<NA>", "#N/A"))  # of these, what nobody says: missing transcripts


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
