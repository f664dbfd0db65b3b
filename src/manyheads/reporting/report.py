"""The report page of one run: results, groups, examples, training, data and provenance.

All metrics come from ``reports/evaluation.json`` and the tables of the stages, so the page, MLflow and DVC show the
same values.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from manyheads.reporting.contents import Contents, headline, main_metrics
from manyheads.reporting.data_plots import data_plots
from manyheads.reporting.examples import MISTAKES, label_issue_examples, random_examples, worst_mistakes
from manyheads.reporting.html import render
from manyheads.reporting.plots import Plot
from manyheads.reporting.result_plots import group_plots, result_plots
from manyheads.reporting.training_plots import training_plots


class Plots(NamedTuple):
    """All plots of a page, which take longer than the rest of it; they show neither thumbnails nor provenance."""

    data: list[Plot]
    training: list[Plot]
    results: dict[str, list[Plot]]
    groups: dict[str, Plot]


def plots_of(contents: Contents) -> Plots:
    """Return the plots of a page; see ``page``."""
    results = {name: result_plots(contents, name) for name in contents.heads}
    return Plots(data_plots(contents), training_plots(contents), results, group_plots(contents))


def page(contents: Contents, title: str, plots: Plots) -> str:
    """Return the page as HTML.

    Args:
        contents: Contents of the page.
        title: Title of the page.
        plots: From ``plots_of`` for the same contents; thumbnails and provenance may be others.
    """
    return render(
        "report.html",
        {"share": lambda value: f"{100 * value:.1f} %"},
        title=title,
        heads=contents.heads,
        evaluation=contents.evaluation,
        headline=headline(contents),
        counts=contents.counts,
        rejected=contents.rejected.to_dict("records"),
        main=main_metrics(contents.heads),
        data=plots.data,
        training=plots.training,
        results=plots.results,
        head_reports=contents.head_reports,
        group_tables=_group_tables(contents),
        group_plots=plots.groups,
        examples=random_examples(contents),
        mistakes=worst_mistakes(contents),
        label_issues=label_issue_examples(contents),
        first_issues=MISTAKES,
        published_by=contents.published_by,
        provenance=contents.provenance,
    )


def _group_tables(contents: Contents) -> list[dict[str, Any]]:
    """Return a table for each set of attributes: one row a group, one column a head."""
    tables = []
    for attributes, cells in itertools.groupby(contents.evaluation["groups"], key=lambda cell: cell["attributes"]):
        by_group: dict[tuple[str, ...], dict[str, Any]] = {}
        for cell in cells:
            row = by_group.setdefault(tuple(cell["group"]), {"n": cell["n"], "heads": {}})
            row["heads"][cell["head"]] = cell["metrics"]
        spreads = [spread for spread in contents.evaluation["spreads"] if spread["attributes"] == attributes]
        tables.append({"attributes": attributes, "rows": by_group, "spreads": spreads})
    return tables
