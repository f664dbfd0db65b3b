"""Results: print the test metrics as a short table."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from manyheads.config.composition import option_with_data
from manyheads.paths import Paths, project_root
from manyheads.runtime.files import read_json

MADE_BY = "make repro"


def main(arguments: list[str]) -> None:
    """Print the metrics of ``reports/metrics.json`` beside their baselines, and commands to go on with."""
    argparse.ArgumentParser(prog="python -m manyheads results", description=main.__doc__).parse_args(arguments)
    from rich.console import Console

    root = project_root()
    metrics = read_json(Paths(root).metrics, MADE_BY)
    console = Console(highlight=False)
    console.print(_table(metrics))
    steps = next_steps(metrics["baseline"], option_with_data(root))
    width = max(40, *map(len, steps))
    for step, purpose in steps.items():
        console.print(f"{step:<{width}} {purpose}", soft_wrap=True, markup=False)


def next_steps(heads: Iterable[str], data: str | None) -> dict[str, str]:
    """Return files and commands to go on with, each with its purpose.

    Args:
        heads: Names of the project's heads, one or more.
        data: The choice of the data, such as ``data=wine``; None for the default, which needs none.
    """
    first = next(iter(heads))
    weight = f"-S {data} -S ++loss.weights.{first}=2" if data else f"-S loss.weights.{first}=2"
    return {
        "reports/report.html": "the results on one page: intervals, groups, examples",
        "reports/heads/*.txt": "classification reports, confusion matrices, metrics by bin",
        "dvc plots show": "curves, confusion matrices, predictions against labels",
        "make ui": "all runs side by side in MLflow",
        f"dvc exp run {weight}": "the next experiment (first: . .venv/bin/activate)",
    }


def _table(metrics: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title=f"{metrics['n']} test samples")
    for column, justify in (("head", "left"), ("metric", "left"), ("test", "right"), ("baseline", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for name, baselines in metrics["baseline"].items():
        for metric, value in metrics[name].items():
            # A baseline predicts no intervals, so metrics of intervals have no baseline.
            baseline = baselines.get(metric)
            table.add_row(name, metric, f"{value:.3f}", "" if baseline is None else f"{baseline:.3f}")
        table.add_section()
    table.add_row("all", "score", f"{metrics['score']:.3f}", "0.000")
    return table
