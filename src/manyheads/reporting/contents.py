"""Contents of the page and the cards of one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from manyheads.heads import Head
from manyheads.heads.metrics import Metric


class Contents(NamedTuple):
    """Everything that the page and the cards show.

    Attributes:
        heads: The heads by name.
        manifest: Accepted samples and their labels.
        counts: Counts of accepted, rejected and left out samples, from ``data_counts``.
        rejected: Rejected rows by stage and code.
        history: Losses and metrics of each epoch.
        weights: Loss weight of each head; None if it is learned, because the history then has it.
        predictions: ``reports/predictions.csv``.
        evaluation: ``reports/evaluation.json``.
        confusions: Confusion matrix of each head with classes: counts, one row a labelled class.
        head_reports: Each head's report as text.
        label_issues: ``reports/label_issues.csv``.
        published: Published metrics for this dataset, such as ``{"race/accuracy": 0.8}``.
        published_by: Author of the published metrics, or an empty text.
        published_bins: Inner edges of the published bins of a label, by head.
        thumbnails: Function from samples' paths to their JPEGs, or None if no thumbnails are shown.
        provenance: Model, data, split and environment of the run, by name.
    """

    heads: Mapping[str, Head]
    manifest: pd.DataFrame
    counts: Mapping[str, Any]
    rejected: pd.DataFrame
    history: pd.DataFrame
    weights: Mapping[str, float | None]
    predictions: pd.DataFrame
    evaluation: Mapping[str, Any]
    confusions: Mapping[str, list[list[int]]]
    head_reports: Mapping[str, str]
    label_issues: pd.DataFrame
    published: Mapping[str, float]
    published_by: str
    published_bins: Mapping[str, tuple[int, ...]]
    thumbnails: Callable[[Sequence[str]], list[bytes]] | None
    provenance: Mapping[str, str]


def main_metrics(heads: Mapping[str, Head]) -> dict[str, Metric]:
    """Return each head's main metric."""
    return {name: head.metric(head.main_metric) for name, head in heads.items()}


def headline(contents: Contents) -> list[dict[str, Any]]:
    """Return the rows of a report's first table: each head's metrics with ``Metric.headline``.

    Each row has ``head``, ``metric`` (a ``Metric``), ``estimate`` (value and interval), ``baseline`` and ``published``;
    the last two are None where there is none.
    """
    rows = []
    for name, head in contents.heads.items():
        found = contents.evaluation["heads"][name]
        rows += [
            {
                "head": name,
                "metric": metric,
                "estimate": found["metrics"][metric.name],
                "baseline": found["baseline"].get(metric.name),
                "published": contents.published.get(f"{name}/{metric.name}"),
            }
            for metric in map(head.metric, found["metrics"])
            if metric.headline
        ]
    return rows


def data_counts(samples: pd.DataFrame, rejected: pd.DataFrame, split: Mapping[str, Any]) -> dict[str, str]:
    """Return counts of accepted, rejected and left out samples, as texts by description.

    Args:
        samples: ``data/packed/samples.csv``.
        rejected: One row a rejected sample.
        split: Content of ``reports/split.json``.
    """
    sizes = samples.groupby("group").size()
    subsets = ", ".join(f"{subset} {split['samples'][subset]:,}" for subset in ("train", "validation", "test"))
    rules = ", ".join(f"{rule} {n:,}" for rule, n in split["excluded"].items()) or "none"
    return {
        "accepted": f"{len(samples):,}",
        "accepted with a note": f"{int((samples['note'].fillna('') != '').sum()):,}",
        "rejected": f"{len(rejected):,}",
        "duplicate groups of two or more": f"{int((sizes > 1).sum()):,} ({int(sizes[sizes > 1].sum()):,} samples)",
        "of them with labels that contradict each other": f"{split['conflicting']['groups']:,} "
        f"({split['conflicting']['samples']:,} samples)",
        "left out of the split, by rule": rules,
        "subsets": subsets,
        "duplicates of test samples in train or validation": f"{split['leaked']['group']:,}",
    }
