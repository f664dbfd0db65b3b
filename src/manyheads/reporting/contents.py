"""TODO manyheads.reporting.contents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from manyheads.heads import Head

if TYPE_CHECKING:
    pass


class Contents(NamedTuple):
    """Everything that the page is drawn from.

    Attributes:
        heads: The heads by name.
        manifest: Accepted samples and their labels.
        counts: What parse, pack and split accepted, rejected and left out; ``reports/split.json`` under ``split``.
        rejected: Rejected rows by stage and code.
        history: Figures of each epoch.
        weights: Loss weight of each head; None where it was learned, for then the history has it.
        predictions: ``reports/predictions.csv``.
        evaluation: ``reports/evaluation.json``.
        confusions: Each classification's confusion matrix, rows as labelled.
        head_reports: Each head's report as text.
        label_issues: ``reports/label_issues.csv``.
        published: Figures that others reported for this dataset, such as ``{"race/accuracy": 0.8}``.
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


def headline(contents: Contents) -> list[dict[str, Any]]:
    """Return the main figures of each head with their interval, the constant answer's and the published one."""
    rows = []
    for name in contents.heads:
        found = contents.evaluation["heads"][name]
        for figure, estimate in found["figures"].items():
            if figure in ("bias", "interval_width", "balanced_accuracy", "rmse"):
                continue
            rows.append(
                {
                    "head": name,
                    "figure": figure,
                    "estimate": estimate,
                    "trivial": found["trivial"].get(figure),
                    "published": contents.published.get(f"{name}/{figure}"),
                }
            )
    return rows
