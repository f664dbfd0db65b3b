"""A comparison of trials in MLflow: metrics, tags and the description of a sweep's run, and a view of its trials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from manyheads.evaluation.comparison import Comparison
from manyheads.evaluation.trials import SCORE, Trial
from manyheads.reporting.comparison_markdown import description
from manyheads.tracking import by_id, descriptions, views

MOST_RUNS = 100
"""Maximum number of runs whose ids a view lists; a tag of MLflow holds no more."""


def query_of_children(parent: str) -> str:
    """Return MLflow's filter for the trials of a sweep or search."""
    return f"tags.`mlflow.parentRunId` = '{parent}'"


def query_of_runs(compared: Comparison) -> str:
    """Return MLflow's filter for the trainings of a comparison, the best ``MOST_RUNS`` of them."""
    ranked = [trial.run_id for candidate in compared.candidates for trial in candidate.trials if trial.run_id]
    return f"attributes.run_id IN ({', '.join(repr(run_id) for run_id in ranked[:MOST_RUNS])})"


def view_of(compared: Comparison, key: str, name: str, query: str) -> views.View:
    """Return the view of compared trainings: varied settings beside each head's main metric on validation.

    No loss weight changes these metrics, so they can be compared between trainings with different weights.

    Args:
        compared: The comparison.
        key: Name of the view in addresses.
        name: Name of the view in the UI's menu.
        query: Filter on the runs.
    """
    seeds = ("seed",) if len({trial.settings.get("seed") for trial in compared.trials}) > 1 else ()
    metrics = [
        f"best/val/{head}/{compared.main_metrics[head].name if head in compared.main_metrics else 'skill'}"
        for head in compared.heads
    ]
    return views.View(key, name, query, tuple(metrics), (*compared.varied, *seeds))


class RunPage(NamedTuple):
    """A run and its experiment, by their ids."""

    experiment_id: str
    run_id: str


def publish(root: Path, run: RunPage, compared: Comparison, view: views.View, files: Sequence[Path]) -> None:
    """Write a comparison into the run of a sweep or search.

    Args:
        root: The project's root folder.
        run: The run.
        compared: The comparison.
        view: The view of the trials.
        files: The comparison's page and table.
    """
    experiment_id, run_id = run
    folder = "comparison"
    run_ids = [trial.run_id for candidate in compared.candidates for trial in candidate.trials if trial.run_id]
    links = {
        "charts of the trials": views.page_of_view(experiment_id, view.key, charts=True),
        "trials by score": views.page_of_view(experiment_id, view.key),
        "setting by setting": views.page_side_by_side(experiment_id, run_ids[:MOST_RUNS]),
        **{path.name: views.page_of_run(experiment_id, run_id, f"{folder}/{path.name}") for path in files},
    }
    best = _best(compared)
    if best is not None and best.run_id:
        links["the best trial"] = views.page_of_run(experiment_id, best.run_id)
    tags = _tags(compared, best) | {descriptions.TAG: description(compared, links)}
    by_id.publish(root, run_id, by_id.Summary(_metrics(compared), tags, files, folder, view))


def _best(compared: Comparison) -> Trial | None:
    """Return the trial with the highest score of the best candidate."""
    if compared.recommendation is None:
        return None
    return max(compared.recommendation.candidate.trials, key=lambda trial: trial.metrics[views.SCORE])


def _metrics(compared: Comparison) -> dict[str, float]:
    metrics = {
        "trials": len(compared.trials), "finished": len(compared.trials) - len(compared.left_out),
        "candidates": len(compared.candidates), "front": sum(each.on_front for each in compared.candidates),
    }  # fmt: skip
    found: dict[str, float] = {}
    if compared.recommendation is not None:
        candidate = compared.recommendation.candidate
        found[views.SCORE] = candidate.score
        for head, metric in compared.main_metrics.items():
            found[f"best/val/{head}/{metric.name}"] = candidate.metrics[head]
    if compared.noise is not None:
        found["noise/score"] = compared.noise.scores[SCORE]
        found |= {
            f"noise/{head}/{metric.name}": compared.noise.metrics[head]
            for head, metric in compared.main_metrics.items()
        }
    return found | metrics


def _tags(compared: Comparison, best: Trial | None) -> dict[str, str]:
    if compared.recommendation is None or best is None:
        return {}
    weights = {
        key.removeprefix("loss.weights."): value
        for key, value in best.settings.items() if key.startswith("loss.weights.")
    }  # fmt: skip
    return {
        "winner": compared.recommendation.candidate.name,
        "winner.run_id": best.run_id,
        "winner.run_name": best.name,
        "winner.weights": ", ".join(f"{head}={value}" for head, value in weights.items()),
        "front": "; ".join(each.name for each in compared.candidates if each.on_front),
        "promote": compared.recommendation.command,
    }
