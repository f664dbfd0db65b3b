"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Mapping

from manyheads.reporting.labels import DIGITS


def number_text(value: float, digits: int = DIGITS) -> str:
    """Return a number with so many digits after the point, and a true minus sign, which is as wide as a plus."""
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def signed_text(value: float, digits: int = DIGITS) -> str:
    """Return the same with a sign in any case: a difference."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def estimate_text(estimate: Mapping[str, float | None], digits: int = DIGITS) -> str:
    """Return a value and its interval, such as ``0.861 (0.849 to 0.872)``, or why there is none.

    Args:
        estimate: ``value``, ``low`` and ``high``, as ``reports/evaluation.json`` has them.
        digits: Digits after the point.
    """
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "not enough samples"
    if low is None or high is None:
        return f"{number_text(value, digits)} (too few for an interval)"
    return f"{number_text(value, digits)} ({number_text(low, digits)} to {number_text(high, digits)})"
