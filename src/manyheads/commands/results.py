"""Results: print the test metrics as a short table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from manyheads.commands import parsers
from manyheads.config.composition import option_with_data
from manyheads.config.loading import read_params
from manyheads.errors import IntegrityError
from manyheads.paths import Paths, project_root
from manyheads.reporting.terminal import print_table
from manyheads.runtime import printing
from manyheads.runtime.files import read_json
from manyheads.tracking import queries, views
from manyheads.tracking.runs import model_tag

MADE_BY = "make repro"


def main(arguments: list[str]) -> None:
    """Print the metrics of ``reports/metrics.json`` beside their baselines, and commands to go on with.

    Raises:
        IntegrityError: The file is missing, damaged, or has other content.
    """
    parsers.results().parse_args(arguments)

    paths = Paths(project_root())
    metrics = read_json(paths.metrics, MADE_BY)
    try:
        table, heads = _table(metrics), list(metrics["baseline"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"{paths.metrics} has no metrics of heads: run `{MADE_BY}`") from error
    console = printing.console(highlight=False)
    print_table(console, table, keys=2)
    steps = next_steps(heads, option_with_data(paths.root))
    width = max(40, *map(len, steps))
    for step, purpose in steps.items():
        console.print(f"{step:<{width}} {purpose}", soft_wrap=True, markup=False)
    if paths.model.exists():
        # MLflow takes seconds to load, so what people wait for stands already.
        experiment = read_params(paths.root / "params.yaml").tracking.experiment
        for name, page in queries.pages_of_model(experiment, paths.root, model_tag(paths.model)).items():
            console.print(f"{name}: {views.ui_address(paths.root)}{page}", soft_wrap=True, markup=False)


def next_steps(heads: Iterable[str], data: str | None) -> dict[str, str]:
    """Return files and commands to go on with, each with its purpose.

    Args:
        heads: Names of the project's heads, one or more.
        data: The choice of the data, such as ``data=wine``; None for the default, which needs none.
    """
    first, *others = heads
    # The weight of an only head changes nothing.
    setting = f"{'++' if data else ''}loss.weights.{first}=2" if others else "train.epochs=20"
    chosen = f"-S {data} -S {setting}" if data else f"-S {setting}"
    return {
        "reports/report.html": "the results on one page: intervals, groups, examples",
        "reports/heads/*.txt": "classification reports, confusion matrices, metrics by bin",
        "dvc plots show": "curves, confusion matrices, predictions against labels",
        "make ui": "all runs side by side in MLflow",
        f"dvc exp run {chosen}": "the next experiment (first: . .venv/bin/activate)",
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
