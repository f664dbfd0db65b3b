"""How metrics are written for people: their labels, and how many digits they deserve."""

from __future__ import annotations

from typing import NamedTuple

from manyheads.heads.metrics import Metric

DIGITS = 3
"""Digits after the point of a metric that says nothing else."""


class Wording(NamedTuple):
    """How a metric is written.

    Attributes:
        label: In sentences and tables.
        short: On axes and in narrow tables.
        digits: Digits after the point.
    """

    label: str
    short: str
    digits: int = DIGITS


# Of the metrics that built-in heads and the evaluation use. A head of your own says its wording in its ``Metric``.
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
    """Return how a metric is written: what it says of itself, else what stands in ``WORDINGS``, else its name."""
    known = WORDINGS.get(metric.name, Wording(metric.name, metric.name))
    label, short = (metric.label, metric.label) if metric.label else (known.label, known.short)
    return Wording(label, short, known.digits if metric.digits is None else metric.digits)
