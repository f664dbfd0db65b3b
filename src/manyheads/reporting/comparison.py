"""The comparison of trials for people: a page that needs no network, a CSV, and a table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from manyheads.data.tables import write_table
from manyheads.evaluation.bootstrap import CONFIDENCE
from manyheads.evaluation.comparison import Comparison
from manyheads.evaluation.settings import short_names, short_value
from manyheads.reporting.comparison_plots import effect_plots, pair_plots, parallel_plot
from manyheads.reporting.comparison_text import (
    answer,
    axis_labels,
    effects_of,
    half_width,
    noise_sentence,
    shown_value,
    title_of,
)
from manyheads.reporting.html import figure_json, render
from manyheads.reporting.terminal import print_table
from manyheads.runtime.files import write_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PAGE = "comparison.html"
TABLE = "trials.csv"
ROWS_ON_TERMINAL = 20

# Maximum number of settings with columns of their own; more of them do not fit a terminal.
SETTING_COLUMNS = 3


def write(folder: Path, comparison: Comparison, about: Mapping[str, str], address: str = "") -> None:
    """Write ``comparison.html`` and ``trials.csv``.

    Args:
        folder: Folder of the files; it is made if it is missing.
        comparison: The comparison.
        about: Origin of the trials by name, such as the command, the data and the git commit.
        address: Address of the trials in the MLflow UI, or an empty text.
    """
    effects = effects_of(comparison)
    page = render(
        "comparison.html",
        {"short": short_value},
        comparison=comparison,
        title=title_of(comparison),
        answer=answer(comparison),
        noise=noise_sentence(comparison),
        names=short_names(comparison.varied),
        labels=axis_labels(comparison),
        shown=shown_value,
        half_width=half_width,
        effects=effects,
        parallel=figure_json(parallel_plot(comparison)) if len(comparison.candidates) > 1 else "",
        pairs=[figure_json(figure) for figure in pair_plots(comparison)],
        plots={
            effect["setting"]: [figure_json(figure) for figure in effect_plots(comparison, effect["setting"])]
            for effect in effects
        },
        confidence=f"{CONFIDENCE:.0%}",
        table=TABLE,
        about=about,
        address=address,
    )
    write_text(folder / PAGE, page)
    write_table(folder / TABLE, comparison.table())


def show(comparison: Comparison, console: Console) -> None:
    """Print the candidates, the trials that are left out, the effects, the noise and the recommendation.

    Args:
        comparison: The comparison.
        console: Console to print on. Three heads and three settings fit 100 columns; see ``terminal.print_table``.
    """
    from rich.markup import escape

    console.print(f"[bold]{title_of(comparison)}[/bold]", soft_wrap=True)
    if comparison.candidates:
        print_table(console, *_terminal_table(comparison))
        more = len(comparison.candidates) - ROWS_ON_TERMINAL
        rest = f"; {more} more in {TABLE}" if more > 0 else ""
        first = "best" if comparison.noise else "highest"
        console.print(f"  * {first}   ~ within noise of it   F on the Pareto front{rest}\n", soft_wrap=True)
    for trial in comparison.left_out:
        console.print(escape(f"{trial.status.lower()}: {trial.name}: {' '.join(trial.error.split())}"[:200]))
    for effect in effects_of(comparison):
        if effect["slopes"]:
            console.print(escape(f"{effect['name']} doubled: {effect['slopes']}"))
    for sentence in (noise_sentence(comparison), answer(comparison)):
        console.print(escape(sentence))
    if comparison.recommendation and comparison.recommendation.command:
        console.print(escape(comparison.recommendation.command), soft_wrap=True)


def _terminal_table(comparison: Comparison) -> tuple[Table, int]:
    """Return the table and the number of its columns that tell the candidates apart."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("")
    names = short_names(comparison.varied)
    setting_columns = 0 < len(comparison.varied) <= SETTING_COLUMNS
    for name in names.values() if setting_columns else ["candidate"]:
        table.add_column(escape(name))
    keys = len(table.columns)
    table.add_column("seeds", justify="right")
    for head, label in axis_labels(comparison).items():
        table.add_column(escape(label.replace(f"{head} ", f"{head}\n")), justify="right")
    for name in ("score", "to best"):
        table.add_column(name, justify="right")
    for candidate in comparison.candidates[:ROWS_ON_TERMINAL]:
        first = candidate is comparison.candidates[0]
        mark = ("*" if first else "~" if candidate.within_noise else " ") + ("F" if candidate.on_front else " ")
        settings = [short_value(candidate.settings[name]) for name in comparison.varied]
        values = settings if setting_columns else [candidate.name]
        table.add_row(
            mark,
            *map(escape, values),
            str(candidate.seeds),
            *(shown_value(metric, candidate.metrics[head]) for head, metric in comparison.main_metrics.items()),
            f"{candidate.score:.3f}",
            "" if first else f"{candidate.difference:+.3f}",
            style="bold" if first else None,
        )
    return table, keys
