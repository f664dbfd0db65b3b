"""How far heads are from a constant answer: what runs, epochs and weights are compared by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from manyheads.heads.base import Head, Labels


def skill_scores(
    heads: Mapping[str, Head], metrics: Mapping[str, float], baselines: Mapping[str, float]
) -> dict[str, float]:
    """Return each head's gain over the trivial baseline: 0 is a constant answer, 1 is perfection.

    Args:
        heads: The heads by name.
        metrics: Value of each head's ``main_metric``.
        baselines: The same for the best constant answer.
    """
    return {name: head.gain(metrics[name], baselines[name]) for name, head in heads.items()}


def total_score(heads: Mapping[str, Head], metrics: Mapping[str, float], baselines: Mapping[str, float]) -> float:
    """Return the sum over the heads of the gain over the trivial baseline, each on its own scale.

    0 is a constant answer, the number of heads is perfection. The total_score does not depend on loss functions or their
    weights, so epochs and runs with different weights compare. The arguments are those of ``skill_scores``.
    """
    return sum(skill_scores(heads, metrics, baselines).values())


def baseline_metrics(
    heads: Mapping[str, Head], fitted_on: Mapping[str, Labels], judged_on: Mapping[str, Labels]
) -> dict[str, dict[str, float]]:
    """Return each head's figures for the best constant answer to the labels ``fitted_on``, judged on others."""
    figures = {}
    for name, head in heads.items():
        constant = np.repeat(head.baseline_output(fitted_on[name]), len(judged_on[name]), axis=0)
        figures[name] = head.measure(judged_on[name], constant)
    return figures
