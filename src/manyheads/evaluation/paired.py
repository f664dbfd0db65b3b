"""Is B better than A? Two models on the same test samples, so what both find hard cancels out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from manyheads.errors import DataError
from manyheads.evaluation.bootstrap import Bootstrap, Estimate, estimate
from manyheads.heads import Head


class Difference(NamedTuple):
    """A figure of two models.

    Attributes:
        head: Whose figure.
        figure: Which.
        first: Of the first model.
        second: Of the second model.
        difference: Second less first, paired.
        better: Whether the second is better (True), worse (False), or the two are not told apart (None).
    """

    head: str
    figure: str
    first: Estimate
    second: Estimate
    difference: Estimate
    better: bool | None


class Disagreement(NamedTuple):
    """McNemar's exact test of two classifiers (McNemar, 1947).

    Attributes:
        head: Which head.
        only_first: Samples that the first alone has right.
        only_second: Samples that the second alone has right.
        p_value: How often chance would split them at least as unevenly if both were equally good. Every sample counts,
            copies of a photograph too.
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


# Figures that are better when smaller. A bias is better nearer to 0, an interval's coverage nearer to its promise:
# these two are shown and not judged.
SMALLER_IS_BETTER = {"mae", "rmse", "interval_width"}
NOT_JUDGED = {"bias", "coverage_90"}


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
    _refuse_other_samples(heads, first, second)
    bootstrap = Bootstrap(first["group"].astype(str).tolist())
    differences, disagreements = [], []
    for name, head in heads.items():
        (_, ours), (_, theirs) = head.recorded(name, first), head.recorded(name, second)
        figures, others = head.figures(bootstrap.sums(ours)), head.figures(bootstrap.sums(theirs))
        for figure in figures:
            if figure in others:
                difference = estimate(others[figure] - figures[figure])
                differences.append(
                    Difference(
                        name,
                        figure,
                        estimate(figures[figure]),
                        estimate(others[figure]),
                        difference,
                        _judged(figure, difference),
                    )
                )
        if head.class_names:
            disagreements.append(_disagreement(name, first, second))
    return Paired(len(first), differences, disagreements)


def _refuse_other_samples(heads: Mapping[str, Head], first: pd.DataFrame, second: pd.DataFrame) -> None:
    ours, theirs = set(first["path"]), set(second["path"])
    if ours != theirs:
        raise DataError(
            f"the two were judged on different splits: {len(ours - theirs)} test samples of the first are not of the "
            f"second, {len(theirs - ours)} the other way round. Evaluate both on one split"
        )
    for name in heads:
        missing = [which for which, table in (("first", first), ("second", second)) if f"{name}_label" not in table]
        if missing:
            raise DataError(f"the {' and '.join(missing)} has no predictions of {name}: it was trained for other heads")
        if np.any(first[f"{name}_label"].to_numpy() != second[f"{name}_label"].to_numpy()):
            raise DataError(f"the two were judged by different labels of {name}: they do not compare")


def _judged(figure: str, difference: Estimate) -> bool | None:
    if figure in NOT_JUDGED or difference.low is None or difference.high is None:
        return None
    if difference.low <= 0 <= difference.high:
        return None
    return (difference.high < 0) == (figure in SMALLER_IS_BETTER)


def _disagreement(name: str, first: pd.DataFrame, second: pd.DataFrame) -> Disagreement:
    from scipy.stats import binomtest

    ours, theirs = ((table[name] == table[f"{name}_label"]).to_numpy() for table in (first, second))
    only_first, only_second = int(np.sum(ours & ~theirs)), int(np.sum(~ours & theirs))
    total: Any = only_first + only_second
    p_value = float(binomtest(only_first, total).pvalue) if total else 1.0
    return Disagreement(name, only_first, only_second, p_value)
