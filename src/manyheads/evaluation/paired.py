"""Is B better than A? Two models on the same test samples, so what both find hard cancels out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from manyheads.errors import DataError
from manyheads.evaluation.bootstrap import Array, Bootstrap, Estimate, estimate
from manyheads.heads import Head, Labels, Metric


class Difference(NamedTuple):
    """A figure of two models.

    Attributes:
        head: Whose figure.
        figure: Which.
        first: Of the first model.
        second: Of the second model.
        difference: Second less first, paired.
        judged: Whether one of them can be the better one; see ``heads.Metric``.
        better: Whether the second is better (True), worse (False), or the two are not told apart (None).
    """

    head: str
    figure: str
    first: Estimate
    second: Estimate
    difference: Estimate
    judged: bool
    better: bool | None


class Disagreement(NamedTuple):
    """McNemar's exact test of two classifiers (McNemar, 1947).

    Attributes:
        head: Which head.
        only_first: Samples that the first alone has right.
        only_second: Samples that the second alone has right.
        p_value: How often chance would split them at least as unevenly if both were equally good. Every sample counts,
            copies of a sample too.
    """

    head: str
    only_first: int
    only_second: int
    p_value: float


class Paired(NamedTuple):
    """All figures of two models on the same samples."""

    n: int
    differences: list[Difference]
    disagreements: list[Disagreement]


def pair(heads: Mapping[str, Head], first: pd.DataFrame, second: pd.DataFrame) -> Paired:
    """Compare two tables of predictions.

    Args:
        heads: The heads by name.
        first: What evaluate wrote for the first model.
        second: The same for the second.

    Raises:
        DataError: The tables are not of the same samples with the same labels.
    """
    first, second = (table.sort_values("path", ignore_index=True) for table in (first, second))
    _refuse_other_samples(first, second)
    bootstrap = Bootstrap(first["group"].astype(str).tolist())
    differences, disagreements = [], []
    for name, head in heads.items():
        labels, ours = _recorded(head, name, first, "first")
        other_labels, theirs = _recorded(head, name, second, "second")
        if not np.array_equal(labels, other_labels, equal_nan=np.issubdtype(labels.dtype, np.floating)):
            raise DataError(f"the two were judged by different labels of {name}: they do not compare")
        figures, others = head.compute_metrics(bootstrap.sums(ours)), head.compute_metrics(bootstrap.sums(theirs))
        for figure in figures:
            if figure in others:
                difference, metric = estimate(others[figure] - figures[figure]), head.metric(figure)
                differences.append(
                    Difference(
                        name,
                        figure,
                        estimate(figures[figure]),
                        estimate(others[figure]),
                        difference,
                        metric.judged,
                        _better(metric, difference),
                    )
                )
        if head.class_names:
            known = head.present(labels)
            disagreements.append(_disagreement(name, head.is_correct(ours[known]), head.is_correct(theirs[known])))
    return Paired(len(first), differences, disagreements)


def _refuse_other_samples(first: pd.DataFrame, second: pd.DataFrame) -> None:
    ours, theirs = set(first["path"]), set(second["path"])
    if ours != theirs:
        raise DataError(
            f"the two were judged on different splits: {len(ours - theirs)} test samples of the first are not of the "
            f"second, {len(theirs - ours)} the other way round. Evaluate both on one split"
        )


def _recorded(head: Head, name: str, table: pd.DataFrame, which: str) -> tuple[Labels, Array]:
    try:
        return head.recorded(table)
    except KeyError as error:
        raise DataError(f"the {which} has no predictions of {name} ({error}): it was trained for other heads") from None
    except ValueError as error:
        raise DataError(f"the {which}'s predictions of {name} are not of this head: {error}") from None


def _better(metric: Metric, difference: Estimate) -> bool | None:
    if not metric.judged or difference.low is None or difference.high is None:
        return None
    if difference.low <= 0 <= difference.high:
        return None
    return (difference.low > 0) == metric.greater_is_better


def _disagreement(name: str, ours: npt.NDArray[np.bool_], theirs: npt.NDArray[np.bool_]) -> Disagreement:
    from scipy.stats import binomtest

    only_first, only_second = int(np.sum(ours & ~theirs)), int(np.sum(~ours & theirs))
    total: Any = only_first + only_second
    p_value = float(binomtest(only_first, total).pvalue) if total else 1.0
    return Disagreement(name, only_first, only_second, p_value)
