"""Paired comparison of two models on the same test samples, so that differences in difficulty cancel out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from manyheads.errors import DataError
from manyheads.evaluation.bootstrap import Array, Bootstrap, Estimate, estimate
from manyheads.heads import Head, Labels
from manyheads.heads.metrics import Metric


class Difference(NamedTuple):
    """The difference between two models in one metric.

    Attributes:
        head: Name of the head.
        metric: The metric.
        first: Metric of the first model.
        second: Metric of the second model.
        difference: Second less first, paired.
        better: Whether the second is better (True) or worse (False); None if no difference is seen.
    """

    head: str
    metric: Metric
    first: Estimate
    second: Estimate
    difference: Estimate
    better: bool | None


class Disagreement(NamedTuple):
    """McNemar's exact test of two classifiers (McNemar, 1947).

    Attributes:
        head: Name of the head.
        only_first: Number of samples that only the first model predicts correctly.
        only_second: Number of samples that only the second model predicts correctly.
        p_value: Probability of a split at least as uneven if both models were equally good. Every sample counts,
            including duplicates.
    """

    head: str
    only_first: int
    only_second: int
    p_value: float


class Paired(NamedTuple):
    """All metrics of two models on the same samples.

    Attributes:
        n: Number of samples.
        differences: Differences by head and metric.
        disagreements: McNemar's test for each head that has classes.
    """

    n: int
    differences: list[Difference]
    disagreements: list[Disagreement]


def pair(heads: Mapping[str, Head], first: pd.DataFrame, second: pd.DataFrame) -> Paired:
    """Compare two tables of predictions.

    Args:
        heads: The heads by name.
        first: ``reports/predictions.csv`` of the first model.
        second: The same of the second model.

    Raises:
        DataError: The tables differ in their samples or labels, or one has no predictions of a head.
    """
    first, second = (table.sort_values("path", ignore_index=True) for table in (first, second))
    _check_same_samples(first, second)
    bootstrap = Bootstrap(first["group"].astype(str).tolist())
    differences: list[Difference] = []
    disagreements = []
    for name, head in heads.items():
        labels, first_contributions = _recorded(head, name, first, "first")
        other_labels, second_contributions = _recorded(head, name, second, "second")
        if not np.array_equal(labels, other_labels, equal_nan=np.issubdtype(labels.dtype, np.floating)):
            raise DataError(f"the two runs have different labels of {name}: evaluate both with the same labels")
        differences += _differences(
            name, head, bootstrap.sums(first_contributions), bootstrap.sums(second_contributions)
        )
        if head.class_names:
            known = head.present(labels)
            correct = (head.is_correct(each[known]) for each in (first_contributions, second_contributions))
            disagreements.append(_disagreement(name, *correct))
    return Paired(len(first), differences, disagreements)


def _differences(name: str, head: Head, first_sums: Array, second_sums: Array) -> list[Difference]:
    """Return a head's metrics of both models from their sums, each of shape (1 + resamples, k)."""
    first, second = head.compute_metrics(first_sums), head.compute_metrics(second_sums)
    found = []
    for metric in map(head.metric, first):
        # A model that predicts no intervals lacks the metrics of intervals.
        if metric.name in second:
            one, other = first[metric.name], second[metric.name]
            difference = estimate(other - one)
            better = _better(metric, difference)
            found.append(Difference(name, metric, estimate(one), estimate(other), difference, better))
    return found


def _check_same_samples(first: pd.DataFrame, second: pd.DataFrame) -> None:
    paths, other_paths = set(first["path"]), set(second["path"])
    if paths != other_paths:
        raise DataError(
            f"the two runs were evaluated on different splits: {len(paths - other_paths)} test samples only in the "
            f"first, {len(other_paths - paths)} only in the second. Evaluate both on one split"
        )


def _recorded(head: Head, name: str, table: pd.DataFrame, which: str) -> tuple[Labels, Array]:
    try:
        return head.recorded(table)
    except KeyError as error:
        raise DataError(
            f"the {which} run has no predictions of {name} ({error}): compare runs of the same heads"
        ) from None
    except ValueError as error:
        raise DataError(
            f"the {which} run's predictions of {name} do not fit the head: {error}. Compare runs of the same heads"
        ) from None


def _better(metric: Metric, difference: Estimate) -> bool | None:
    if not metric.judged or difference.low is None or difference.high is None:
        return None
    if difference.low <= 0 <= difference.high:
        return None
    return (difference.low > 0) == metric.greater_is_better


def _disagreement(name: str, first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> Disagreement:
    from scipy.stats import binomtest

    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(~first & second))
    total: Any = only_first + only_second
    p_value = float(binomtest(only_first, total).pvalue) if total else 1.0
    return Disagreement(name, only_first, only_second, p_value)
