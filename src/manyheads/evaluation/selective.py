"""Selective prediction: the main metric of the most confident predictions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from manyheads.evaluation.bootstrap import Array, Bootstrap, Estimate, estimate
from manyheads.heads import Head, Labels, Outputs

KEPT = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
"""Shares of the samples for which the metric is computed."""


class Selected(NamedTuple):
    """The main metric of the most confident predictions.

    Attributes:
        kept: Share of the samples.
        n: Number of samples.
        metric: The head's main metric among them.
        confidence: The lowest confidence among them.
    """

    kept: float
    n: int
    metric: Estimate
    confidence: float


def selective(head: Head, labels: Labels, outputs: Outputs, confidence: Array, bootstrap: Bootstrap) -> list[Selected]:
    """Return the main metric of the most confident predictions, for decreasing shares of the samples.

    Args:
        head: The head.
        labels: Labels, shape (n,).
        outputs: The head's outputs, shape (n, units).
        confidence: Confidence of each prediction, shape (n,).
        bootstrap: Resamples of the same n samples.
    """
    contributions = head.contributions(labels, outputs)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[np.argsort(-confidence, kind="stable")] = np.arange(len(labels))
    found = []
    for kept in KEPT:
        n = round(kept * len(labels))
        if n:
            values = head.compute_metrics(bootstrap.sums(contributions, rank < n))
            lowest = float(confidence[rank < n].min())
            found.append(Selected(kept, n, estimate(values[head.main_metric]), lowest))
    return found
