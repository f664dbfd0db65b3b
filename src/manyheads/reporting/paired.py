"""The paired comparison of two models for people: a page that needs no network, and a table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from manyheads.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Estimate
from manyheads.evaluation.paired import Difference, Paired
from manyheads.reporting.html import GREEN, GREY, ORANGE, figure_json, render, styled
from manyheads.reporting.labels import wording
from manyheads.reporting.numbers import estimate_text, number_text
from manyheads.reporting.terminal import print_table
from manyheads.runtime.files import write_text

if TYPE_CHECKING:
    from rich.console import Console

PAGE = "paired.html"
VERDICTS: Mapping[bool | None, str] = {True: "better", False: "worse", None: "no difference seen"}
COLOURS: Mapping[bool | None, str] = {True: GREEN, False: ORANGE, None: GREY}


def write(folder: Path, compared: Paired, names: Sequence[str]) -> None:
    """Write ``paired.html``.

    Args:
        folder: Folder of the page; it is made if it is missing.
        compared: The comparison.
        names: Names of the two models.
    """
    page = render(
        "paired.html",
        {"verdict": _verdict},
        title=f"Is {names[1]} better than {names[0]}?",
        names=names,
        compared=compared,
        answer=answer(compared, names),
        plots=[_plot(head, compared) for head in dict.fromkeys(row.head for row in compared.differences)],
        confidence=f"{CONFIDENCE:.0%}",
        resamples=f"{RESAMPLES:,}",
    )
    write_text(folder / PAGE, page)


def show(compared: Paired, names: Sequence[str], console: Console) -> None:
    """Print the differences and a conclusion.

    Args:
        compared: The comparison.
        names: Names of the two models.
        console: Console to print on.
    """
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("head", "metric", *names, "difference", ""):
        table.add_column(escape(column), justify="left" if column in ("head", "metric", "") else "right")
    for row in compared.differences:
        digits = wording(row.metric).digits
        table.add_row(
            row.head,
            row.metric.name,
            _value(row.first, digits),
            _value(row.second, digits),
            estimate_text(row.difference._asdict()),
            _verdict(row),
        )
    print_table(console, table, keys=2)
    for test in compared.disagreements:
        console.print(
            escape(
                f"{test.head}: only {names[0]} is correct for {test.only_first} samples, only {names[1]} for "
                f"{test.only_second}; p = {test.p_value:.2g} (McNemar, exact)"
            )
        )
    console.print(escape(answer(compared, names)))


def answer(compared: Paired, names: Sequence[str]) -> str:
    """Return the conclusion as a sentence."""
    by = {better: [row for row in compared.differences if row.better is better] for better in (True, False)}
    said = [
        f"{word} in {', '.join(f'{row.head} {wording(row.metric).label}' for row in rows)}"
        for word, rows in (("better", by[True]), ("worse", by[False]))
        if rows
    ]
    if not said:
        return f"On {compared.n:,} test samples, no difference between {names[1]} and {names[0]} is seen."
    return f"On {compared.n:,} test samples, {names[1]} is {'; '.join(said)}."


def _verdict(row: Difference) -> str:
    return VERDICTS[row.better] if row.metric.judged else "shown only"


def _value(estimate: Estimate, digits: int) -> str:
    return "-" if estimate.value is None else number_text(estimate.value, digits)


def _plot(head: str, compared: Paired) -> dict[str, str]:
    """Return a plot of a head's differences that are better or worse, as ``head``, ``plot`` and ``alternative``.

    Metrics have different units, so each difference is divided by the first model's value. Metrics whose first value is
    not positive are left out.
    """
    import plotly.graph_objects as go

    rows = [row for row in compared.differences if row.head == head and row.difference.low is not None]
    shares = [row for row in rows if row.metric.judged and (row.first.value or 0) > 0]
    ends = [_relative(row) for row in shares]
    figure = go.Figure(
        go.Scatter(
            x=[value for value, _, _ in ends],
            y=[wording(row.metric).label for row in shares],
            error_x={
                "type": "data",
                "array": [high - value for value, _, high in ends],
                "arrayminus": [value - low for value, low, _ in ends],
                "thickness": 1.5,
                "width": 0,
            },
            mode="markers",
            marker={"color": [COLOURS[row.better] for row in shares], "size": 9},
            hoverinfo="skip",
        )
    )
    figure.add_vline(x=0, line={"color": GREY, "width": 1})
    figure.update_xaxes(title="difference, relative", tickformat="+.1~%")
    figure.update_yaxes(autorange="reversed")
    text = "; ".join(f"{wording(row.metric).label} {estimate_text(row.difference._asdict())}" for row in rows)
    plot = figure_json(styled(figure, 110 + 26 * len(shares), {"l": 200, "r": 12, "t": 10, "b": 44}))
    return {"head": head, "plot": plot, "alternative": f"Differences for {head}: {text}"}


def _relative(row: Difference) -> tuple[float, float, float]:
    """Return a difference and the ends of its interval, divided by the first model's value."""
    first = row.first.value or 1.0
    value, low, high = ((each or 0.0) / first for each in row.difference)
    return value, low, high
