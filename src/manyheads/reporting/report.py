"""The report of one run as a page: data, training, results, groups, examples, provenance. Draws; computes nothing.

All figures come from ``reports/evaluation.json`` and the tables that the stages wrote, so the page, MLflow and DVC
cannot disagree.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from manyheads.reporting.contents import Contents, headline
from manyheads.reporting.examples import label_issue_examples, random_examples, worst_mistakes
from manyheads.reporting.html import render
from manyheads.reporting.numbers import estimate_text, figure_name, number_text
from manyheads.reporting.report_plots import (
    group_plots,
    label_shares,
    published_bin_shares,
    result_plots,
    training_plots,
)

if TYPE_CHECKING:
    pass


def page(contents: Contents, title: str) -> str:
    """Return the page."""
    return render(
        "report.html",
        {
            "estimate": estimate_text,
            "number": number_text,
            "figure_name": figure_name,
            "share": lambda value: f"{100 * value:.1f} %",
        },
        title=title,
        heads=contents.heads,
        evaluation=contents.evaluation,
        headline=headline(contents),
        counts=contents.counts,
        rejected=contents.rejected.to_dict("records"),
        data=[
            *(label_shares(contents, name) for name in contents.heads),
            *(published_bin_shares(contents, name, bins) for name, bins in contents.published_bins.items()),
        ],
        training=training_plots(contents),
        results={name: result_plots(contents, name) for name in contents.heads},
        head_reports=contents.head_reports,
        cells=_cells(contents),
        group_plots=group_plots(contents),
        examples=random_examples(contents),
        mistakes=worst_mistakes(contents),
        label_issues=label_issue_examples(contents),
        published_by=contents.published_by,
        provenance=contents.provenance,
    )


def _cells(contents: Contents) -> list[dict[str, Any]]:
    """Return a table for each set of attributes: a row a group, a column a head."""
    tables = []
    for attributes, cells in itertools.groupby(contents.evaluation["groups"], key=lambda cell: cell["attributes"]):
        by_group: dict[tuple[str, ...], dict[str, Any]] = {}
        for cell in cells:
            row = by_group.setdefault(tuple(cell["group"]), {"n": cell["n"], "heads": {}})
            row["heads"][cell["head"]] = cell["figures"]
        spreads = [spread for spread in contents.evaluation["spreads"] if spread["attributes"] == attributes]
        tables.append({"attributes": attributes, "rows": by_group, "spreads": spreads})
    return tables
