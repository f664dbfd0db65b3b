"""TODO manyheads.reporting.numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


# Digits after the point; three where nothing is said.
DIGITS = {"mae": 2, "rmse": 2, "bias": 2, "interval_width": 1, "ratio": 2}


# The parts of a name in evaluation.json as people say them.
FIGURE_NAMES = {
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "R²",
    "bias": "bias (predicted less labelled)",
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "coverage_90": "labels inside the 90 % interval",
    "interval_width": "mean width of the 90 % interval",
    "ece": "expected calibration error",
    "nll": "negative log-likelihood",
    "brier": "Brier score",
}


def figure_name(name: str) -> str:
    """Return a figure's name in words."""
    if name.startswith("f1_"):
        return f"F1 of {name.removeprefix('f1_')}"
    if name.startswith("within_"):
        return f"share within {name.removeprefix('within_')}"
    return FIGURE_NAMES.get(name, name)


def number_text(value: float, figure: str) -> str:
    """Return a figure's value with the digits that it deserves."""
    return f"{value:.{DIGITS.get(figure, 3)}f}".replace("-", "\N{MINUS SIGN}")


def estimate_text(estimate: Mapping[str, float | None], figure: str) -> str:
    """Return a figure and its interval, such as ``0.861 (0.849 to 0.872)``, or why there is none."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "not enough samples"
    if low is None or high is None:
        return f"{number_text(value, figure)} (too few for an interval)"
    return f"{number_text(value, figure)} ({number_text(low, figure)} to {number_text(high, figure)})"
