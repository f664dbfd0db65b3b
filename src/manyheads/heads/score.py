"""Baselines and skill scores, which compare runs, epochs and loss weights."""

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
        baselines: Value of the same metric for the baseline.

    Example:
        >>> from manyheads.heads import Regression
        >>> heads = {"age": Regression(name="age", unit="years", minimum=0, maximum=116)}
        >>> skill_scores(heads, metrics={"age": 5.0}, baselines={"age": 20.0})
        {'age': 0.75}
    """
    return {name: head.skill(metrics[name], baselines[name]) for name, head in heads.items()}


def total_score(heads: Mapping[str, Head], metrics: Mapping[str, float], baselines: Mapping[str, float]) -> float:
    """Return the sum of the heads' skill scores: 0 is the baseline, the number of heads is perfection.

    The score does not depend on loss functions or their weights. Epochs and runs with different losses are therefore
    comparable. See ``skill_scores`` for the arguments.
    """
    return sum(skill_scores(heads, metrics, baselines).values())


def baseline_metrics(
    heads: Mapping[str, Head], fitted_on: Mapping[str, Labels], evaluated_on: Mapping[str, Labels]
) -> dict[str, dict[str, float]]:
    """Return the metrics of each head's baseline, the best constant output for some labels, evaluated on other labels.

    Args:
        heads: The heads by name.
        fitted_on: Labels of each head that the baseline is fitted to.
        evaluated_on: Labels of each head that the baseline is evaluated on.
    """
    metrics = {}
    for name, head in heads.items():
        baseline = np.repeat(head.baseline_output(fitted_on[name]), len(evaluated_on[name]), axis=0)
        metrics[name] = head.evaluate(evaluated_on[name], baseline)
    return metrics
