"""Two models on the same test samples as people read it: a page that needs no network, and a table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manyheads.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Estimate
from manyheads.evaluation.paired import Difference, Paired
from manyheads.reporting.html import GREEN, GREY, ORANGE, render, styled
from manyheads.reporting.numbers import estimate_text, figure_name, number_text
from manyheads.runtime.files import write_text

if TYPE_CHECKING:
    from rich.console import Console

PAGE = "paired.html"
VERDICTS: Mapping[bool | None, str] = {True: "better", False: "worse", None: "not told apart"}


def write(folder: Path, compared: Paired, names: Sequence[str]) -> None:
    """Write ``paired.html``.

    Args:
        folder: Where to; it is made if it is missing.
        compared: What to show.
        names: What the two models are called.
    """
    page = render(
        "paired.html",
        {"estimate": _text, "figure_name": figure_name, "verdict": _verdict},
        title=f"Is {names[1]} better than {names[0]}?",
        names=names,
        compared=compared,
        answer=answer(compared, names),
        plots=_plots(compared),
        confidence=f"{CONFIDENCE:.0%}",
        resamples=f"{RESAMPLES:,}",
    )
    write_text(folder / PAGE, page)


def show(compared: Paired, names: Sequence[str], console: Console) -> None:
    """Print the differences and what they mean."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("head", "figure", *names, "difference", ""):
        table.add_column(escape(column), justify="left" if column in ("head", "figure", "") else "right")
    for row in compared.differences:
        table.add_row(
            row.head,
            row.figure,
            _value(row.first, row.figure),
            _value(row.second, row.figure),
            _text(row.difference, "difference"),
            _verdict(row),
        )
    console.print(table)
    for test in compared.disagreements:
        console.print(
            escape(
                f"{test.head}: {names[0]} alone is right for {test.only_first}, {names[1]} alone for "
                f"{test.only_second} samples; p = {test.p_value:.2g} (McNemar, exact)"
            )
        )
    console.print(escape(answer(compared, names)))


def answer(compared: Paired, names: Sequence[str]) -> str:
    """Return what the differences say, in words."""
    by = {better: [row for row in compared.differences if row.better is better] for better in (True, False)}
    said = [
        f"{word} in {', '.join(f'{row.head} {figure_name(row.figure)}' for row in rows)}"
        for word, rows in (("better", by[True]), ("worse", by[False]))
        if rows
    ]
    if not said:
        return f"On {compared.n:,} test samples, {names[1]} and {names[0]} are not told apart."
    return f"On {compared.n:,} test samples, {names[1]} is {'; '.join(said)}."


def _verdict(row: Difference) -> str:
    return VERDICTS[row.better] if row.judged else "not judged"


def _value(estimate: Estimate, figure: str) -> str:
    return "-" if estimate.value is None else number_text(estimate.value, figure)


def _text(estimate: Estimate, figure: str) -> str:
    return estimate_text(estimate._asdict(), figure)


def _plots(compared: Paired) -> list[dict[str, str]]:
    import plotly.graph_objects as go

    plots = []
    colours = {True: GREEN, False: ORANGE, None: GREY}
    for head in dict.fromkeys(row.head for row in compared.differences):
        rows: list[Any] = [row for row in compared.differences if row.head == head and row.difference.low is not None]
        # Errors in the label's unit and shares do not fit one axis: each as a share of the first model's figure.
        shares = [row for row in rows if row.first.value and row.figure not in ("bias", "r2")]
        figure = go.Figure(
            go.Scatter(
                x=[row.difference.value / abs(row.first.value) for row in shares],
                y=[figure_name(row.figure) for row in shares],
                error_x={
                    "type": "data",
                    "array": [(row.difference.high - row.difference.value) / abs(row.first.value) for row in shares],
                    "arrayminus": [
                        (row.difference.value - row.difference.low) / abs(row.first.value) for row in shares
                    ],
                    "thickness": 1.5,
                    "width": 0,
                },
                mode="markers",
                marker={"color": [colours[row.better] for row in shares], "size": 9},
                hoverinfo="skip",
            )
        )
        figure.add_vline(x=0, line={"color": GREY, "width": 1})
        figure.update_xaxes(title="difference, relative", tickformat="+.1~%")
        figure.update_yaxes(autorange="reversed")
        words = "; ".join(f"{figure_name(row.figure)} {_text(row.difference, 'difference')}" for row in rows)
        plot = styled(figure, 110 + 26 * len(shares), {"l": 200, "r": 12, "t": 10, "b": 44}).to_json()
        plots.append({"head": head, "plot": plot, "alternative": f"Differences for {head}: {words}"})
    return plots
