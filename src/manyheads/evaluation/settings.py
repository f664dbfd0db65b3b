"""Names and values of settings, short and in order, for tables and plots of trials."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable


def short_names(settings: Iterable[str]) -> dict[str, str]:
    """Return the shortest endings of dotted names that tell the settings apart.

    Example:
        >>> short_names(["loss.weights.age", "loss.functions.age", "train.epochs"])
        {'loss.weights.age': 'weights.age', 'loss.functions.age': 'functions.age', 'train.epochs': 'epochs'}
    """
    settings = list(settings)
    names = {}
    for setting in settings:
        words = setting.split(".")
        endings = [".".join(words[-n:]) for n in range(1, len(words) + 1)]
        names[setting] = next(
            (
                ending
                for ending in endings
                if not any(f".{other}".endswith(f".{ending}") for other in settings if other != setting)
            ),
            setting,
        )
    return names


def short_value(value: str) -> str:
    """Return a setting's value for people: a number has four significant digits, an empty value is ``none``."""
    number = number_of(value)
    if number is None:
        return value or "none"
    return f"{number:.0f}" if number == round(number) and abs(number) < 1e6 else f"{number:.4g}"


def number_of(value: str) -> float | None:
    """Return the finite number that a setting's value is, or None."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def value_order(value: str) -> tuple[bool, float, list[tuple[int, str]]]:
    """Return a sort key: numbers come first, by size; texts follow in natural order."""
    number = number_of(value)
    return (number is None, number or 0.0, natural_order(value))


def natural_order(text: str) -> list[tuple[int, str]]:
    """Return a sort key that compares the digits in a text as numbers: ``w.9`` comes before ``w.10``."""
    return [(int(word), "") if word.isdecimal() else (0, word) for word in re.split(r"(\d+)", text)]
