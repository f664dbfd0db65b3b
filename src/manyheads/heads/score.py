"""Baselines and skill scores: what runs, epochs and loss weights are compared by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from manyheads.heads.base import Head, Labels


def skill_scores(
    heads: Mapping[str, Head], metrics: Mapping[str, float], baselines: Mapping[str, float]
) -> dict[str, float]:
    """Return each head's skill score: 0 is its baseline, 1 is perfection.

    Args:
        heads: The heads by name.
        metrics: Value of each head's main metric.
        baselines: The same for the baseline.
    """
    return {name: head.skill(metrics[name], baselines[name]) for name, head in heads.items()}


def total_score(heads: Mapping[str, Head], metrics: Mapping[str, float], baselines: Mapping[str, float]) -> float:
    """Return the sum of the heads' skill scores: 0 is the baseline, the number of heads is perfection.

    The score does not depend on loss functions or their weights, so epochs and runs with different weights compare. The
    arguments are those of ``skill_scores``.
    """
    return sum(skill_scores(heads, metrics, baselines).values())


def baseline_metrics(
    heads: Mapping[str, Head], fitted_on: Mapping[str, Labels], evaluated_on: Mapping[str, Labels]
) -> dict[str, dict[str, float]]:
    """Return each head's metrics for the best constant output of one set of labels, evaluated on another."""
    metrics = {}
    for name, head in heads.items():
        constant = np.repeat(head.baseline_output(fitted_on[name]), len(evaluated_on[name]), axis=0)
        metrics[name] = head.evaluate(evaluated_on[name], constant)
    return metrics
