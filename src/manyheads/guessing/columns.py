"""What a column of a table holds: numbers, classes, texts, paths of images, or nothing to learn from."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from manyheads.guessing.sources import is_image_name
from manyheads.preprocessing.labels import MISSING_WORDS

Content = Literal[
    "nothing", "one value", "row numbers", "identifiers", "dates", "images", "numbers", "rows of numbers", "token ids",
    "classes", "text",
]  # fmt: skip

USELESS = ("nothing", "one value", "row numbers", "identifiers", "dates")
"""Contents that are neither learned nor learned from, unless the user names the column."""

MOST_CLASSES = 100
ROWS_OF_A_CLASS = 5
"""Fewer rows a class on average are names or codes rather than classes."""

LARGEST_NUMBER = 1e30
"""Numbers and the sums of their squares must fit float32 and float64."""

SAMPLE = 5_000
"""Number of cells whose form is looked at."""

ALMOST_ALL = 0.95
"""Share of cells that must have a form, because real columns hold slips."""

_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2}))([T ]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?.*)?"
)
_IDENTIFIER = re.compile(r"|id|idx|index|key|uuid|guid|row|row_?(number|id|index)|unnamed_\d+|.*_id|no|nr", re.ASCII)
_CAMEL_ID = re.compile(r".*[a-z]I[dD]")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its name in the table.
        content: What the cells hold.
        cells: The cells that are not empty, as texts.
        empty: Which cells are empty, shape (rows,), bool.
        counts: Number of cells of each distinct text, most frequent first.
        numbers: The cells as numbers, shape (len(cells),), float64; empty if some are none.
        words: Mean number of words in a cell.
        remark: Anything that the user should know about the cells, or an empty text.
    """

    name: str
    content: Content
    cells: pd.Series[str]
    empty: npt.NDArray[np.bool_]
    counts: pd.Series[int]
    numbers: npt.NDArray[np.float64]
    words: float
    remark: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether all cells are whole numbers."""
        return bool(len(self.numbers)) and bool(np.all(self.numbers == np.rint(self.numbers)))

    @property
    def is_useless(self) -> bool:
        """Whether nothing is learned from the column unless the user names it."""
        return self.content in USELESS

    def evidence(self) -> str:
        """Return what the guess rests on: distinct cells, empty cells and examples."""
        parts = [f"{len(self.counts):,} distinct"]
        if missing := int(self.empty.sum()):
            parts.append(f"{missing:,} empty")
        if self.content == "numbers":
            parts.append(f"{self.numbers.min():g} to {self.numbers.max():g}")
        elif len(self.counts):
            parts.append(shortened(", ".join(shortened(text) for text in self.counts.index[:4]), 60))
        return "; ".join(parts)


def shortened(text: str, length: int = 24) -> str:
    """Return a text on one line, cut to a length."""
    flat = " ".join(str(text).split())
    return flat if len(flat) <= length else f"{flat[: length - 1]}…"


def examine(name: str, cells: pd.Series[str], is_image: Callable[[str], bool]) -> Column:
    """Return what a column holds.

    Args:
        name: Name of the column.
        cells: All cells as texts; an empty text is a missing cell.
        is_image: Returns whether a path that a cell holds is that of an image beside the table.
    """
    texts = cells.astype(str).str.strip()
    # "NA" is no number, but as a text it is one of the values.
    missing = texts.str.casefold().isin(("", *MISSING_WORDS)).to_numpy(dtype=bool)
    numbers = _numbers(texts[~missing])
    empty = missing if len(numbers) else (texts == "").to_numpy(dtype=bool)
    filled = texts[~empty]
    counts = filled.value_counts()
    sample = filled if len(filled) <= SAMPLE else filled.sample(SAMPLE, random_state=0)
    words = float(sample.map(lambda cell: len(cell.split())).mean()) if len(filled) else 0.0
    content, remark = _content(name, filled, sample, counts, numbers, words, is_image)
    return Column(name, content, filled, empty, counts, numbers, words, remark)


def _numbers(texts: pd.Series[str]) -> npt.NDArray[np.float64]:
    """Return texts as numbers, or an empty array if one is none."""
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return numbers if _are_usable(numbers).all() else np.empty(0)


def _are_usable(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.abs(numbers) < LARGEST_NUMBER)  # nor is NaN less


def _content(
    name: str,
    filled: pd.Series[str],
    sample: pd.Series[str],
    counts: pd.Series[int],
    numbers: npt.NDArray[np.float64],
    words: float,
    is_image: Callable[[str], bool],
) -> tuple[Content, str]:
    n, distinct = len(filled), len(counts)
    if n == 0:
        return "nothing", ""
    if not name or not name.isprintable():
        return "identifiers", "" if not name else "a name that cannot be printed: rename the column to use it"
    if sample.map(is_image_name).mean() >= ALMOST_ALL:
        found = counts.index[:20].map(is_image).to_numpy().mean()
        return ("images", "") if found > 0.5 else ("identifiers", "paths of images that are not beside the table")
    if distinct == 1:
        return "one value", ""
    if len(numbers):
        return _content_of_numbers(name, numbers, distinct), ""
    if sample.map(lambda cell: bool(_DATE.fullmatch(cell))).mean() >= ALMOST_ALL:
        return "dates", ""
    if sample.map(lambda cell: bool(_DECIMAL_COMMA.fullmatch(cell))).mean() >= ALMOST_ALL / 2:
        return "identifiers", "numbers with a comma: write them with a point to use them"
    if words > 1 and (rows := _rows_of_numbers(filled)):
        return rows, ""
    odd = filled[~_are_usable(pd.to_numeric(filled, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan))]
    if len(odd) <= n / 5:
        remark = (
            f"numbers but for {len(odd)} cells such as {shortened(odd.iloc[0])!r}: empty these to use it as numbers"
        )
        return ("classes", remark) if _are_classes(n, distinct) else ("identifiers", remark)
    if is_identifier(name) and distinct > MOST_CLASSES:
        return "identifiers", ""
    if _are_classes(n, distinct) and words < 6:
        return "classes", ""
    if words < 2.5 and distinct > n / 2 and n > MOST_CLASSES / 5:
        return "identifiers", "mostly different codes or names"
    return "text", ""


def is_identifier(name: str) -> bool:
    """Return whether a column's name is that of an identifier, such as ``PassengerId`` or an empty name."""
    return bool(_IDENTIFIER.fullmatch(identifier(name, fallback="")) or _CAMEL_ID.fullmatch(name))


def _are_classes(n: int, distinct: int) -> bool:
    return 2 <= distinct <= MOST_CLASSES and n >= ROWS_OF_A_CLASS * distinct


def _content_of_numbers(name: str, numbers: npt.NDArray[np.float64], distinct: int) -> Content:
    n = len(numbers)
    if distinct == n and n > 2 and np.all(numbers == np.rint(numbers)):
        if is_identifier(name):
            return "identifiers"
        # A run without a gap, such as 1, 2, 3, ...; a short one can be a measurement.
        if n >= 20 and numbers.max() - numbers.min() == n - 1:
            return "row numbers"
    if is_identifier(name) and distinct > MOST_CLASSES:
        return "identifiers"
    if re.search(r"time(stamp)?$", name, re.IGNORECASE) and numbers.min() > 1e8:
        return "dates"
    return "numbers"


def _rows_of_numbers(filled: pd.Series[str]) -> Content | None:
    """Return the content of cells that hold several numbers separated by blanks, or None."""
    sample = filled.iloc[:1000]
    if not sample.map(lambda cell: bool(re.fullmatch(r"[-+0-9.eE\s]+", cell))).all():
        return None
    lengths = set(sample.map(lambda cell: len(cell.split())))
    if len(lengths) == 1:
        return "rows of numbers"
    return "token ids" if sample.map(lambda cell: bool(re.fullmatch(r"[\d\s]+", cell))).all() else None


def identifier(name: str, fallback: str) -> str:
    """Return a name as the configuration takes it: lower case, digits and underscores, a letter first.

    Args:
        name: Any text.
        fallback: The name if no letter or digit is left.

    Example:
        >>> identifier("Fixed Acidity (g/l)", "column")
        'fixed_acidity_g_l'
    """
    import unicodedata

    spaced = re.sub(r"(?<=[a-z0-9]{2})(?=[A-Z])", "_", name)  # PassengerId, but not pH
    plain = unicodedata.normalize("NFKD", spaced).encode("ascii", "ignore").decode()
    found = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")
    if not found:
        return fallback
    return found if found[0].isalpha() else f"x{found}"
