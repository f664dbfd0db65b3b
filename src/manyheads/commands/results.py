"""Results: the test figures as a short table on the terminal."""

from __future__ import annotations

import argparse
import json

from manyheads.errors import IntegrityError
from manyheads.paths import Paths, project_root

NEXT = {
    "reports/report.html": "everything on one page: intervals, groups, examples",
    "reports/heads/*.txt": "classification reports and confusion matrices",
    "reports/figures/*.png": "curves, confusion matrices, predictions against labels",
    "make ui": "all runs side by side in MLflow",
    "dvc exp run -S loss=age_heavy": "the next experiment (first: . .venv/bin/activate)",
}


def main(arguments: list[str]) -> None:
    """Print the figures of ``reports/metrics.json`` beside the trivial baselines, and where to look next."""
    argparse.ArgumentParser(prog="python -m manyheads results", description=main.__doc__).parse_args(arguments)
    from rich.console import Console
    from rich.table import Table

    layout = Paths(project_root())
    try:
        metrics = json.loads(layout.metrics.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise IntegrityError(f"{layout.metrics} is missing or damaged ({error}): run `make repro`") from None
    table = Table(title=f"{metrics['n']} test samples")
    for column, justify in (("head", "left"), ("figure", "left"), ("test", "right"), ("constant answer", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for name in metrics["baseline"]:
        for figure, value in metrics[name].items():
            # A constant answer has no interval, so not all figures have a counterpart.
            constant = metrics["baseline"][name].get(figure)
            table.add_row(name, figure, f"{value:.3f}", "" if constant is None else f"{constant:.3f}")
        table.add_section()
    table.add_row("all", "score", f"{metrics['score']:.3f}", "0.000")
    console = Console(highlight=False)
    console.print(table)
    for place, what in NEXT.items():
        console.print(f"{place:<32} {what}", soft_wrap=True)
