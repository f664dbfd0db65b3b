"""Numbers as text for people."""

from __future__ import annotations

from collections.abc import Mapping

from manyheads.reporting.labels import DIGITS


def number_text(value: float, digits: int = DIGITS) -> str:
    """Return a number with a number of digits after the point and a typographic minus sign."""
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def signed_text(value: float, digits: int = DIGITS) -> str:
    """Return a number with its sign, also if it is positive."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def estimate_text(estimate: Mapping[str, float | None], digits: int = DIGITS) -> str:
    """Return a value and its interval, or why there is none.

    Args:
        estimate: ``value``, ``low`` and ``high``, as in ``reports/evaluation.json``.
        digits: Digits after the point.

    Example:
        >>> estimate_text({"value": 0.861, "low": 0.849, "high": 0.872})
        '0.861 (0.849 to 0.872)'
    """
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "not enough samples"
    if low is None or high is None:
        return f"{number_text(value, digits)} (too few for an interval)"
    return f"{number_text(value, digits)} ({number_text(low, digits)} to {number_text(high, digits)})"
