"""Settings of heads and inputs from the columns that they learn or read."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from manyheads.guessing.columns import Column, identifier

WIDEST_REGRESSION = 10_000
"""Whole numbers that spread wider are learned as real numbers, which have no list of all labels."""

_UNITS = {
    "age": "years", "years": "years", "year": "years", "days": "days", "hours": "hours", "minutes": "minutes",
    "seconds": "seconds", "points": "points", "quality": "points", "score": "points", "rating": "points",
    "grade": "points", "stars": "stars", "cm": "cm", "mm": "mm", "km": "km", "kg": "kg", "eur": "euros",
    "usd": "dollars", "percent": "percent",
}  # fmt: skip
UNKNOWN_UNIT = "units"

AUGMENT = 0.5
"""Strength of the random changes of photographs."""

STEPS = 1_500
"""Number of steps that a training should have, within limits of its epochs."""

_YES_AND_NO = (("0", "1"), ("no", "yes"), ("n", "y"), ("false", "true"), ("f", "t"), ("0.0", "1.0"))
_ROUND: list[int] = [factor * 10**power for power in range(6) for factor in (1, 2, 3, 5)]
_WORDS = re.compile(r"\w+|[^\w\s]")


def regression(column: Column) -> dict[str, Any]:
    """Return the settings of a head that learns a column of numbers, with bounds rounded outwards."""
    low, high = float(column.numbers.min()), float(column.numbers.max())
    unit = _unit(column.name)
    minimum, maximum = _outwards(low, high)
    if not column.is_whole or maximum - minimum > WIDEST_REGRESSION:
        return {"kind": "vector", "unit": unit, "width": 1, "minimum": minimum, "maximum": maximum}
    inner = np.rint(np.quantile(column.numbers, [0.2, 0.4, 0.6, 0.8])).astype(int)
    bins = sorted({int(edge) for edge in inner if low < edge < maximum})
    deviation = max(1.0, float(np.std(column.numbers)) / 4)
    tolerance = min(_ROUND, key=lambda each: abs(math.log(each / deviation)))
    return {
        "kind": "regression", "unit": unit, "minimum": int(minimum), "maximum": int(maximum), "bins": bins,
        "tolerance": tolerance,
    }  # fmt: skip


def classes(names: list[str]) -> dict[str, Any]:
    """Return the settings of a head that learns classes; two that answer a question are a binary head."""
    for pair in _YES_AND_NO:
        if {name.lower() for name in names} == set(pair) and len(names) == 2:
            return {"kind": "binary", "classes": sorted(names, key=lambda name: pair.index(name.lower()))}
    return {"kind": "categorical", "classes": in_order(names)}


def in_order(names: list[str]) -> list[str]:
    """Return names sorted, by their value if all are numbers."""
    try:
        return sorted(names, key=float)
    except ValueError:
        return sorted(names)


def text(column: Column) -> dict[str, Any]:
    """Return the settings of an input that reads a column of texts: 95 % of them fit uncut."""
    sample = column.cells if len(column.cells) <= 20_000 else column.cells.sample(20_000, random_state=0)
    tokens = [_WORDS.findall(cell.casefold()) for cell in sample]
    words = len({word for words in tokens for word in words})
    if column.content == "token ids":
        ids = [int(word) for words in tokens for word in words]
        settings: dict[str, Any] = {"kind": "text", "tokens": "ids", "vocabulary": max(ids) + 1}
    else:
        # Words share ids by chance; with twice as many ids as words, two in five do, with a ceiling for long tables.
        settings = {
            "kind": "text",
            "tokens": "words",
            "vocabulary": min(20_000, max(100, 4 * _up_to_two_digits(words))),
        }
    length = float(np.quantile([len(words) for words in tokens], 0.95))
    return {**settings, "length": min(512, max(1, math.ceil(length)))}


def _up_to_two_digits(number: int) -> int:
    step: int = 10 ** max(0, len(str(number)) - 2)
    return math.ceil(number / step) * step


def _unit(name: str) -> str:
    words = identifier(name, "").split("_")
    return next((_UNITS[word] for word in reversed(words) if word in _UNITS), UNKNOWN_UNIT)


def _outwards(low: float, high: float) -> tuple[float, float]:
    """Return bounds outside of all numbers: 0 if it is near, otherwise with one or two digits."""
    step = _round_number((high - low) / 10)
    minimum = 0.0 if 0 <= low <= high - low else math.floor(low / step) * step
    maximum = 0.0 if 0 >= high >= low - high else math.ceil(high / step) * step
    digits = max(0, -math.floor(math.log10(step)))
    return round(minimum, digits), round(maximum, digits)


def _round_number(number: float) -> float:
    """Return 1, 2 or 5 times a power of ten that is at most a number above 0."""
    power = 10.0 ** math.floor(math.log10(number))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= number * (1 + 1e-9))


def training(samples: int, *, photographs: bool) -> tuple[dict[str, Any], str]:
    """Return settings of the training that depend on the data, and a comment on them.

    A small dataset needs many epochs of small batches to get some hundred steps.

    Args:
        samples: Number of samples in all subsets.
        photographs: Whether the images may be changed at random: 1,400 photographs are soon learned by heart.
    """
    trained = max(1, round(0.7 * samples))
    batch = next(size for size, limit in ((16, 1_000), (32, 5_000), (64, math.inf)) if trained <= limit)
    steps = math.ceil(trained / batch)
    epochs = min(30, max(8, math.ceil(STEPS / steps)))
    comment = f"About {trained:,} training samples: {epochs} epochs of {steps:,} steps."
    if not photographs:
        return {"epochs": epochs, "batch_size": batch}, comment
    comment += " Images are changed at random, mirrored among others: augment is 0 where left and right matter."
    return {"epochs": epochs, "batch_size": batch, "augment": AUGMENT}, comment
