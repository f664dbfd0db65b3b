"""Changes to an MLflow run by its id, for runs that this process does not have open.

If the store cannot be reached, each function logs one warning and the work goes on without a record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from manyheads.runtime.credentials import masked
from manyheads.tracking import views
from manyheads.tracking.runs import RunSpec
from manyheads.tracking.store import (
    attempt,
    client_of,
    is_active,
    masked_tags,
    open_experiment,
    tracking_uri,
    warn_not_taken,
)


def open_shared_run(experiment: str, root: Path, spec: RunSpec) -> str:
    """Return the id of a run, new or known, that several processes share.

    No process has the run open: ``set_status`` ends it, ``publish`` adds to it.

    Args:
        experiment: Name of the MLflow experiment.
        root: The project's root folder.
        spec: Name, tags and, if it is known, the id of the run.

    Returns:
        The id, or an empty text if the store cannot be reached.
    """
    try:
        client, experiment_id = open_experiment(experiment, root)
        if spec.run_id and is_active(client, spec.run_id):
            return spec.run_id
        run = client.create_run(experiment_id, tags=masked_tags(spec.tags), run_name=spec.name)
        return str(run.info.run_id)
    except Exception as error:  # whatever a store, a driver or a server raises
        warn_not_taken(f"a run in {masked(tracking_uri(root))}", error)
        return ""


def set_status(root: Path, run_id: str, status: str) -> None:
    """Set the status of a run.

    Args:
        root: The project's root folder.
        run_id: The run; nothing happens if it is an empty text.
        status: ``RUNNING``, or how the run ended: ``FINISHED``, ``FAILED`` or ``KILLED``.
    """

    def action() -> None:
        client = client_of(tracking_uri(root))
        if status == "RUNNING":
            client.update_run(run_id, status)
        else:
            client.set_terminated(run_id, status)

    if run_id:
        attempt("the status of a run", action)


class Summary(NamedTuple):
    """What the run of a sweep or search shows of its trials.

    Attributes:
        metrics: Metrics by name.
        tags: Tags by name; the description is one of them.
        files: Files to attach.
        folder: The artifacts' folder of these files.
        view: The view of the trials.
    """

    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    files: Sequence[Path]
    folder: str
    view: views.View


def publish(root: Path, run_id: str, summary: Summary) -> None:
    """Write a summary into a run; the run's status stays as it is.

    Args:
        root: The project's root folder.
        run_id: The run; nothing happens if it is an empty text.
        summary: The summary.
    """

    def action() -> None:
        client = client_of(tracking_uri(root))
        for name, value in summary.metrics.items():
            client.log_metric(run_id, name, value)
        for name, text in masked_tags(summary.tags).items():
            client.set_tag(run_id, name, text)
        for path in summary.files:
            client.log_artifact(run_id, str(path), summary.folder)
        views.save(client, root, client.get_run(run_id).info.experiment_id, summary.view)

    if run_id:
        attempt("the summary of a run", action)


def save_view(root: Path, experiment_id: str, view: views.View) -> None:
    """Save a view of an experiment; nothing happens if the experiment's id is an empty text."""

    def action() -> None:
        views.save(client_of(tracking_uri(root)), root, experiment_id, view)

    if experiment_id:
        attempt("a view", action)


def experiment_of(root: Path, run_id: str) -> str:
    """Return the id of a run's experiment; an empty text if the run's id is empty or the store cannot be reached."""
    found: list[str] = []

    def action() -> None:
        client = client_of(tracking_uri(root))
        found.append(client.get_run(run_id).info.experiment_id)

    return found[0] if run_id and attempt("the summary of a run", action) else ""


def page_by_score(root: Path, experiment: str, data: str) -> str:
    """Return the UI's page of an experiment's runs of a dataset, the highest score first.

    The store and the experiment are made if they are missing.

    Args:
        root: The project's root folder.
        experiment: Name of the MLflow experiment.
        data: Name of the dataset.

    Returns:
        An address relative to ``views.ui_address``, or an empty text if the store cannot be reached.
    """
    found: list[str] = []

    def action() -> None:
        client, experiment_id = open_experiment(experiment, root)
        key = views.key_by_score(data)
        known = f"{views.TAG}{key}" in client.get_experiment(experiment_id).tags
        found.append(views.page_of_view(experiment_id, key) if known else views.page_of_runs(experiment_id))

    return found[0] if attempt("the address of the runs", action) else ""
