"""What the pages and cards of one run are made from."""

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
        counts: What parse, pack and split accepted, rejected and left out; ``reports/split.json`` under ``split``.
        rejected: Rejected rows by stage and code.
        history: Losses and metrics of each epoch.
        weights: Loss weight of each head; None where it was learned, for then the history has it.
        predictions: ``reports/predictions.csv``.
        evaluation: ``reports/evaluation.json``.
        confusions: Each classification's confusion matrix, rows as labelled.
        head_reports: Each head's report as text.
        label_issues: ``reports/label_issues.csv``.
        published: Metrics that others reported for this dataset, such as ``{"race/accuracy": 0.8}``.
        published_by: Who, or an empty text.
        published_bins: Into which bins they count a label, by head.
        thumbnails: Returns a JPEG of each sample by its path, or None where no thumbnails are to be shown.
        provenance: What was run on what, by name.
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
    """Return the rows of a report's first table: the metrics of each head that belong there.

    Each row has ``head``, ``metric`` (a ``Metric``), ``estimate`` (value and interval), ``baseline`` and ``published``,
    both None where there is none.
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
    """Return how many samples were accepted, rejected and left out, as texts by what they count.

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
        "accepted with a note on the name": f"{int((samples['note'].fillna('') != '').sum()):,}",
        "rejected": f"{len(rejected):,}",
        "duplicate groups of two or more": f"{int((sizes > 1).sum()):,} ({int(sizes[sizes > 1].sum()):,} samples)",
        "of them with labels that contradict each other": f"{split['conflicting']['groups']:,} "
        f"({split['conflicting']['samples']:,} samples)",
        "left out of the split, by rule": rules,
        "subsets": subsets,
        "duplicates of test samples in train or validation": f"{split['leaked']['group']:,}",
    }
