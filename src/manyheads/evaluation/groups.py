"""For whom the model fails: metrics by what samples are labelled as, one attribute at a time and two together."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from manyheads.evaluation.bootstrap import Array, Bootstrap, Estimate, estimate
from manyheads.heads import Head, Labels, Outputs

SMALL = 30
"""Groups with fewer samples are marked, and are neither the worst nor the best group."""

LEAST_IN_CELL = 10
"""Samples that a group needs in a bin for that bin to count in a standardised error."""


class Cell(NamedTuple):
    """Metrics of a head for one group.

    Attributes:
        attributes: What the group is made of, such as ``race`` and ``gender``.
        group: Its value of each of them.
        head: Whose metrics they are.
        n: Samples in the group.
        metrics: By name.
    """

    attributes: tuple[str, ...]
    group: tuple[str, ...]
    head: str
    n: int
    metrics: dict[str, Estimate]


class Spread(NamedTuple):
    """How far apart the best and the worst group are, of those that are large enough.

    The interval is that of the difference between these two groups; that they were chosen for being far apart makes
    gaps look larger than they are.

    Attributes:
        attributes: What the groups are made of.
        head: Whose metric it is.
        metric: Name of the metric.
        best: The group with the best value.
        worst: The group with the worst.
        gap: Worst less best.
        ratio: Worst divided by best.
    """

    attributes: tuple[str, ...]
    head: str
    metric: str
    best: tuple[str, ...]
    worst: tuple[str, ...]
    gap: Estimate
    ratio: Estimate


class Standardised(NamedTuple):
    """The error of a group as it would be with everybody's distribution of the labels.

    Attributes:
        attribute: What the groups are made of.
        group: Its value.
        head: A regression.
        raw: The head's main metric.
        standardised: The mean over the bins of the label, weighted as in all groups together.
        covered: Share of all samples that lie in bins where this group has at least ``LEAST_IN_CELL``.
    """

    attribute: str
    group: str
    head: str
    raw: Estimate
    standardised: Estimate
    covered: float


def by_group(
    heads: Mapping[str, Head], labels: Mapping[str, Labels], outputs: Mapping[str, Outputs], bootstrap: Bootstrap
) -> tuple[list[Cell], list[Spread]]:
    """Return every head's metrics for each group of labels and for each two attributes together.

    Args:
        heads: The heads by name; each is an attribute, too.
        labels: Each head's labels, shape (n,).
        outputs: Each head's outputs, shape (n, units).
        bootstrap: Of the same samples.
    """
    contributions = {name: head.contributions(labels[name], outputs[name]) for name, head in heads.items()}
    strata = {name: head.strata(labels[name]) for name, head in heads.items()}
    cells, spreads = [], []
    several = [name for name, head in heads.items() if len(head.stratum_names) > 1]
    for attributes in [*((name,) for name in several), *itertools.combinations(several, 2)]:
        counted: dict[str, dict[tuple[str, ...], tuple[int, dict[str, Array]]]] = {name: {} for name in heads}
        for values in itertools.product(*(range(len(heads[name].stratum_names)) for name in attributes)):
            rows = np.logical_and.reduce(
                [strata[name] == value for name, value in zip(attributes, values, strict=True)]
            )
            if not rows.any():
                continue
            group = tuple(heads[name].stratum_names[value] for name, value in zip(attributes, values, strict=True))
            for name, head in heads.items():
                metrics = group_metrics(head, bootstrap.sums(contributions[name], rows))
                counted[name][group] = (int(rows.sum()), metrics)
                shown = {metric: estimate(resampled) for metric, resampled in metrics.items()}
                cells.append(Cell(attributes, group, name, int(rows.sum()), shown))
        for name, head in heads.items():
            if (spread := _spread(attributes, name, head, counted[name])) is not None:
                spreads.append(spread)
    return cells, spreads


def group_metrics(head: Head, sums: Array) -> dict[str, Array]:
    """Return what means the same in every group: the main metric, and those that say so of themselves."""
    values = head.compute_metrics(sums)
    further = (metric.name for metric in head.metrics if metric.by_group)
    return {name: values[name] for name in dict.fromkeys((head.main_metric, *further)) if name in values}


def _spread(
    attributes: tuple[str, ...], name: str, head: Head, groups: Mapping[tuple[str, ...], tuple[int, dict[str, Array]]]
) -> Spread | None:
    metric = head.metric(head.main_metric)
    large = {group: values[metric.name] for group, (n, values) in groups.items() if n >= SMALL}
    if len(large) < 2:
        return None
    ordered = sorted(large, key=lambda group: float(large[group][0]), reverse=metric.greater_is_better)
    best, worst = ordered[0], ordered[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = large[worst] / large[best]
    return Spread(attributes, name, metric.name, best, worst, estimate(large[worst] - large[best]), estimate(ratio))


def standardised(
    heads: Mapping[str, Head], labels: Mapping[str, Labels], outputs: Mapping[str, Outputs], bootstrap: Bootstrap
) -> list[Standardised]:
    """Return each regression's error by class of the other heads, standardised for its own label.

    Where classes differ in age, the class with more of the ages that are hard has the larger error, though the model
    may be alike for both. Direct standardisation gives every class the same ages.
    """
    found = []
    regressions = {name: head for name, head in heads.items() if not head.class_names and len(head.stratum_names) > 1}
    classes = {name: head for name, head in heads.items() if head.class_names}
    for (name, head), (attribute, by) in itertools.product(regressions.items(), classes.items()):
        contributions, bins = head.contributions(labels[name], outputs[name]), head.strata(labels[name])
        counts = head.stratum_counts(labels[name])
        shares = counts / counts.sum()
        for value, group in enumerate(by.class_names):
            rows = labels[attribute] == value
            if rows.any():
                found.append(_standardised(attribute, group, name, head, contributions, rows, bins, shares, bootstrap))
    return found


def _standardised(
    attribute: str,
    group: str,
    name: str,
    head: Head,
    contributions: Array,
    rows: npt.NDArray[np.bool_],
    bins: npt.NDArray[np.int64],
    shares: Array,
    bootstrap: Bootstrap,
) -> Standardised:
    raw = head.compute_metrics(bootstrap.sums(contributions, rows))[head.main_metric]
    counted = [i for i in range(len(shares)) if np.sum(rows & (bins == i)) >= LEAST_IN_CELL]
    covered = float(shares[counted].sum())
    weighted = np.full_like(raw, np.nan)
    if counted:
        errors = [
            head.compute_metrics(bootstrap.sums(contributions, rows & (bins == i)))[head.main_metric] for i in counted
        ]
        weighted = np.asarray(np.stack(errors, axis=1) @ shares[counted] / covered)
    return Standardised(attribute, group, name, estimate(raw), estimate(weighted), covered)
