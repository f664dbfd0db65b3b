"""Compare: trainings that MLflow has, side by side on the terminal and on a page; judged by validation alone."""

from __future__ import annotations

import argparse
import json
import logging
import platform
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from manyheads import comparison_page, tracking
from manyheads.comparison import Point, compare
from manyheads.config import read_params
from manyheads.layout import project_root

logger = logging.getLogger(__name__)

EPILOG = """examples:
  python -m manyheads compare                                          the points of the newest sweep or search
  python -m manyheads compare 3f9a1c07                                 of this one
  python -m manyheads compare 3f9a1c07 b2d4e688 90aa17c5               of several, or single trainings
  python -m manyheads compare --filter 'params.`loss.name` = "balanced"'   all trainings for which this holds

The filter is MLflow's: names with dots or slashes stand in backticks, so quote it with single quotes outside."""


def main(arguments: list[str]) -> None:
    """Parse the command line, read the points from MLflow, and write and print their comparison."""
    parser = argparse.ArgumentParser(
        prog="python -m manyheads compare", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compare trainings: candidates, noise, front, effects, and the command that promotes the best.",
    )  # fmt: skip
    parser.add_argument(
        "runs", nargs="*", metavar="RUN_ID",
        help=f"a sweep, a search or a training; its first {tracking.SHORTEST_PREFIX} characters are enough",
    )  # fmt: skip
    parser.add_argument("--filter", default="", help="MLflow's filter on the trainings")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where to write (default: reports/comparison of the project)"
    )
    options = parser.parse_args(arguments)
    from rich.console import Console

    root = project_root()
    config = read_params(root / "params.yaml").tracking
    recorded = tracking.recorded_points(config, root, options.runs, options.filter)
    compared = compare(as_point(run) for run in recorded.runs)
    folder = options.output or root / "reports/comparison"
    comparison_page.write(folder, compared, _about(arguments, config.experiment, recorded))
    comparison_page.show(compared, Console(highlight=False))
    page = folder / comparison_page.PAGE
    if len(recorded.parents) == 1:
        tracking.attach(root, recorded.parents[0], [page, folder / comparison_page.TABLE], "comparison")
    logger.info("page: %s", page)


def as_point(run: tracking.RecordedRun) -> Point:
    """Return what a comparison needs to know of a recorded run."""
    return Point(
        name=run.name,
        status=run.status,
        settings=run.params,
        metrics=run.metrics,
        split=run.tags.get("split", ""),
        run_id=run.run_id,
        error=run.tags.get("error", ""),
        overrides=tuple(json.loads(run.tags.get("overrides", "[]"))),
        experiment=run.tags.get("dvc.experiment", ""),
    )


def _about(arguments: Sequence[str], experiment: str, recorded: tracking.RecordedPoints) -> dict[str, str]:
    def distinct(values: Sequence[str | None]) -> str:
        return ", ".join(sorted({value for value in values if value})) or "not recorded"

    return {
        "command": shlex.join(["python", "-m", "manyheads", "compare", *arguments]),
        "MLflow experiment": experiment,
        "sweep or search": ", ".join(recorded.parents) or "none: single trainings",
        "data": distinct([run.params.get("data.name") for run in recorded.runs]),
        "split": distinct([run.tags.get("split") for run in recorded.runs]),
        "git commit": distinct([run.tags.get("git.commit") for run in recorded.runs]),
        "compared": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, Python {platform.python_version()}",
    }
