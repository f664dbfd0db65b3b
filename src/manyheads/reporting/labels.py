"""Wording of metrics for people: their labels and their number of digits."""

from __future__ import annotations

from typing import NamedTuple

from manyheads.heads.metrics import Metric

DIGITS = 3
"""Digits after the point of a metric without digits of its own."""


class Wording(NamedTuple):
    """Wording of a metric.

    Attributes:
        label: Label in sentences and tables.
        short: Label on axes and in narrow tables.
        digits: Digits after the point.
    """

    label: str
    short: str
    digits: int = DIGITS


# Wording of the metrics of built-in heads and of the evaluation. A user's own head sets it in its ``Metric``.
WORDINGS = {
    "mae": Wording("mean absolute error", "MAE", 2),
    "rmse": Wording("root mean squared error", "RMSE", 2),
    "r2": Wording("R²", "R²"),
    "bias": Wording("bias (predicted less labelled)", "bias", 2),
    "coverage_90": Wording("labels inside the 90 % interval", "coverage of 90 %"),
    "interval_width": Wording("mean width of the 90 % interval", "interval width", 1),
    "accuracy": Wording("accuracy", "accuracy"),
    "macro_f1": Wording("macro-F1", "macro-F1"),
    "balanced_accuracy": Wording("balanced accuracy", "balanced accuracy"),
    "iou": Wording("intersection over union", "IoU"),
    "iou_50": Wording("share of boxes with an IoU of half or more", "IoU of half or more"),
    "ece": Wording("expected calibration error", "ECE"),
    "nll": Wording("negative log-likelihood", "NLL"),
    "brier": Wording("Brier score", "Brier score"),
    "ratio": Wording("ratio", "ratio", 2),
}


def wording(metric: Metric) -> Wording:
    """Return the wording of a metric: its own, otherwise that in ``WORDINGS``, otherwise its name.

    Example:
        >>> wording(Metric(name="mae")).label
        'mean absolute error'
    """
    known = WORDINGS.get(metric.name, Wording(metric.name, metric.name))
    label, short = (metric.label, metric.label) if metric.label else (known.label, known.short)
    return Wording(label, short, known.digits if metric.digits is None else metric.digits)
