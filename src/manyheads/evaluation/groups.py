"""Metrics by group: samples grouped by their labels, one attribute at a time and two together."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from manyheads.evaluation.bootstrap import Array, Bootstrap, Estimate, estimate
from manyheads.heads import Head, Labels, Outputs

SMALL = 30
"""Groups with fewer samples are marked; they cannot be the worst or the best group."""

MINIMUM_IN_BIN = 10
"""Minimum number of a group's samples in a bin for that bin to count in a standardized error."""


class Cell(NamedTuple):
    """Metrics of a head for one group.

    Attributes:
        attributes: Heads by whose labels samples are grouped, such as ``race`` and ``gender``.
        group: The group's value of each attribute.
        head: Head that the metrics are of.
        n: Number of samples in the group.
        metrics: Metrics by name.
    """

    attributes: tuple[str, ...]
    group: tuple[str, ...]
    head: str
    n: int
    metrics: dict[str, Estimate]


class Spread(NamedTuple):
    """The difference between the best and the worst group, among the groups that are large enough.

    The interval is that of the difference between these two groups. The two are selected for being far apart, so the
    gap is biased upwards.

    Attributes:
        attributes: Heads by whose labels samples are grouped.
        head: Head that the metric is of.
        metric: Name of the metric.
        best: The group with the best value.
        worst: The group with the worst value.
        gap: Worst value less best value.
        ratio: Worst value divided by best value.
    """

    attributes: tuple[str, ...]
    head: str
    metric: str
    best: tuple[str, ...]
    worst: tuple[str, ...]
    gap: Estimate
    ratio: Estimate


class Standardised(NamedTuple):
    """A group's error, standardized to the label distribution of all samples.

    Attributes:
        attribute: Head by whose labels samples are grouped.
        group: The group's value.
        head: A head without classes.
        raw: The head's main metric in the group.
        standardised: Mean of the metric over the bins of the label, weighted by the bins' shares of all samples.
        covered: Share of all samples in bins where this group has at least ``MINIMUM_IN_BIN`` samples.
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
    """Return every head's metrics for each group, by one attribute and by each two attributes together.

    Args:
        heads: The heads by name. Each head with several strata is also an attribute.
        labels: Each head's labels, shape (n,) or (n, width).
        outputs: Each head's outputs, shape (n, units).
        bootstrap: Resamples of the same n samples.

    Returns:
        The groups that have samples, and the spread of each head over the groups of the same attributes.
    """
    contributions = {name: head.contributions(labels[name], outputs[name]) for name, head in heads.items()}
    strata = {name: head.strata(labels[name]) for name, head in heads.items()}
    cells, spreads = [], []
    stratified = [name for name, head in heads.items() if len(head.stratum_names) > 1]
    for attributes in [*((name,) for name in stratified), *itertools.combinations(stratified, 2)]:
        in_groups: dict[str, dict[tuple[str, ...], tuple[int, dict[str, Array]]]] = {name: {} for name in heads}
        for values in itertools.product(*(range(len(heads[name].stratum_names)) for name in attributes)):
            rows = np.logical_and.reduce(
                [strata[name] == value for name, value in zip(attributes, values, strict=True)]
            )
            if not rows.any():
                continue
            group = tuple(heads[name].stratum_names[value] for name, value in zip(attributes, values, strict=True))
            for name, head in heads.items():
                metrics = group_metrics(head, bootstrap.sums(contributions[name], rows))
                in_groups[name][group] = (int(rows.sum()), metrics)
                shown = {metric: estimate(resampled) for metric, resampled in metrics.items()}
                cells.append(Cell(attributes, group, name, int(rows.sum()), shown))
        for name, head in heads.items():
            if (spread := _spread(attributes, name, head, in_groups[name])) is not None:
                spreads.append(spread)
    return cells, spreads


def comparable_metrics(head: Head) -> list[str]:
    """Return the names of the metrics that groups can be compared by: the main metric, and those with ``by_group``.

    Example:
        >>> from manyheads.heads import Regression
        >>> comparable_metrics(Regression(unit="years", minimum=0, maximum=116))
        ['mae', 'bias']
    """
    further = (metric.name for metric in head.metrics if metric.by_group)
    return list(dict.fromkeys((head.main_metric, *further)))


def group_metrics(head: Head, sums: Array) -> dict[str, Array]:
    """Return the comparable metrics of a group.

    Args:
        head: The head.
        sums: Sums of its contributions over the group, shape (..., k).

    Returns:
        Metrics by name, shape (...).
    """
    values = head.compute_metrics(sums)
    return {name: values[name] for name in comparable_metrics(head) if name in values}


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
    """Return each regression's error by the classes of the other heads, standardized for the regression's label.

    Two groups whose labels are distributed differently have different errors even if the model is equally good for
    both. Direct standardization weights every group's errors by the same distribution of labels.

    Args:
        heads: The heads by name.
        labels: Each head's labels, shape (n,).
        outputs: Each head's outputs, shape (n, units).
        bootstrap: Resamples of the same n samples.
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
    covered_bins = [i for i in range(len(shares)) if np.sum(rows & (bins == i)) >= MINIMUM_IN_BIN]
    covered = float(shares[covered_bins].sum())
    weighted = np.full_like(raw, np.nan)
    if covered_bins:
        errors = [
            head.compute_metrics(bootstrap.sums(contributions, rows & (bins == i)))[head.main_metric]
            for i in covered_bins
        ]
        weighted = np.asarray(np.stack(errors, axis=1) @ shares[covered_bins] / covered)
    return Standardised(attribute, group, name, estimate(raw), estimate(weighted), covered)
