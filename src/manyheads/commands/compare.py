"""Compare: trainings from MLflow, on the terminal and on a page.

Candidates are compared by validation metrics alone. Promoted candidates have test predictions; ``--test`` compares two
of them sample by sample.
"""

from __future__ import annotations

import json
import logging
import platform
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from manyheads.commands import parsers, saved_model
from manyheads.config.loading import read_params
from manyheads.config.schema import Config
from manyheads.data.tables import read_predictions
from manyheads.errors import DataError, MachineError
from manyheads.evaluation.comparison import Comparison, compare
from manyheads.evaluation.paired import pair
from manyheads.evaluation.trials import Trial
from manyheads.heads.metrics import Metric
from manyheads.paths import project_root
from manyheads.reporting import comparison, paired
from manyheads.runtime import printing
from manyheads.runtime.credentials import masked
from manyheads.runtime.files import json_digest
from manyheads.sweeps import publishing
from manyheads.tracking import by_id, queries, views

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    """Parse the command line, read the trials from MLflow, and write and print their comparison."""
    parser = parsers.compare()
    options = parser.parse_args(arguments)

    root = project_root()
    params = read_params(root / "params.yaml")
    folder = options.output or root / "reports/comparison"
    if options.test:
        if options.runs or options.filter:
            parser.error("--test takes two runs and nothing else: leave out other runs and --filter")
        _compare_on_test(params, root, options.test, folder)
        return
    experiment = params.tracking.experiment
    recorded = queries.recorded_trials(experiment, root, options.runs, options.filter)
    compared = compare(as_trial(run) for run in recorded.runs)
    view = _view(recorded, compared)
    experiment_id = by_id.experiment_of(root, recorded.runs[0].run_id)
    address = views.absolute(root, views.page_of_view(experiment_id, view.key, charts=True), experiment_id)
    comparison.write(folder, compared, _about(arguments, experiment, recorded), address)
    page = folder / comparison.PAGE
    if experiment_id and len(recorded.parents) == 1:
        run = publishing.RunPage(experiment_id, recorded.parents[0])
        publishing.publish(root, run, compared, view, [page, folder / comparison.TABLE])
    else:
        by_id.save_view(root, experiment_id, view)
    comparison.show(compared, printing.console(highlight=False))
    logger.info("page: %s", page)
    if address:
        logger.info("%s", views.opening(root, address))


def _view(recorded: queries.RecordedTrials, compared: Comparison) -> views.View:
    tags = recorded.runs[0].tags
    kind = next((kind for kind in ("sweep", "search") if kind in tags), "")
    if len(recorded.parents) == 1 and kind and all("trial" in run.tags for run in recorded.runs):
        query = publishing.query_of_children(recorded.parents[0])
        return publishing.view_of(compared, tags[kind], f"{kind} {tags[kind]}", query)
    key = f"compare-{json_digest([run.run_id for run in recorded.runs], 8)}"
    query = publishing.query_of_runs(compared)
    return publishing.view_of(compared, key, f"{len(recorded.runs)} trainings", query)


def _compare_on_test(config: Config, root: Path, names: Sequence[str], folder: Path) -> None:
    tables = [_predictions(config, root, name) for name in names]
    compared = pair(config.data.heads, *tables)
    paired.write(folder, compared, names)
    paired.show(compared, names, printing.console(highlight=False))
    logger.info("page: %s", folder / paired.PAGE)
    try:
        page = queries.page_of_pair(config.tracking.experiment, root, names)
    except (DataError, MachineError):
        return  # two git revisions need no record of runs
    if page:
        logger.info("%s", views.opening(root, f"{views.ui_address(root)}{page}"))


def _predictions(config: Config, root: Path, name: str) -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as folder:
        path = saved_model.test_predictions(root, config.tracking.experiment, name, Path(folder))
        return read_predictions(path, config.data.heads)


def as_trial(run: queries.RecordedRun) -> Trial:
    """Return a recorded run as a trial of a comparison."""
    return Trial(
        name=run.name,
        status=run.status,
        settings=run.params,
        metrics={**run.metrics, **_last(run.metrics)},
        split=run.tags.get("split", ""),
        run_id=run.run_id,
        error=masked(run.tags.get("error", "")),
        overrides=tuple(json.loads(run.tags.get("overrides", "[]"))),
        experiment=run.tags.get("dvc.experiment", ""),
        main_metrics={
            head: Metric.model_validate(metric)
            for head, metric in json.loads(run.tags.get("main_metrics", "{}")).items()
        },
    )


def _last(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the validation metrics of the last epoch: MLflow's value of a metric is that of its last step."""
    return {f"last/{name}": value for name, value in metrics.items() if name.startswith("val/")}


def _about(arguments: Sequence[str], experiment: str, recorded: queries.RecordedTrials) -> dict[str, str]:
    def distinct(values: Sequence[str | None]) -> str:
        return ", ".join(sorted({value for value in values if value})) or "not recorded"

    return {
        "command": shlex.join(["python", "-m", "manyheads", "compare", *arguments]),
        "MLflow experiment": experiment,
        "sweep or search": ", ".join(recorded.parents) or "none: single trainings",
        "data": distinct([run.tags.get("data") for run in recorded.runs]),
        "split": distinct([run.tags.get("split") for run in recorded.runs]),
        "git commit": distinct([run.tags.get("git.commit") for run in recorded.runs]),
        "compared": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, Python {platform.python_version()}",
    }
