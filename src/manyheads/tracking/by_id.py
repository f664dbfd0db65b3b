"""Changes to an MLflow run by its id, for runs that this process does not have open.

If the store cannot be reached, each function logs one warning and the work goes on without a record.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from manyheads.runtime.credentials import masked
from manyheads.tracking.runs import RunSpec
from manyheads.tracking.store import (
    attempt,
    is_active,
    load_mlflow,
    masked_tags,
    open_experiment,
    tracking_uri,
    warn_not_taken,
)


def open_shared_run(experiment: str, root: Path, spec: RunSpec) -> str:
    """Return the id of a run, new or known, that several processes share.

    No process has the run open: ``set_status`` ends it, ``attach`` adds files to it.

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
        client = load_mlflow().MlflowClient(tracking_uri(root))
        if status == "RUNNING":
            client.update_run(run_id, status)
        else:
            client.set_terminated(run_id, status)

    if run_id:
        attempt("the status of a run", action)


def end_dead_run(root: Path, run_id: str, status: str) -> None:
    """End a run whose process died; a run that has ended keeps its status.

    Args:
        root: The project's root folder.
        run_id: The run; nothing happens if it is an empty text.
        status: ``FAILED`` or ``KILLED``.
    """

    def action() -> None:
        client = load_mlflow().MlflowClient(tracking_uri(root))
        if client.get_run(run_id).info.status == "RUNNING":
            client.set_terminated(run_id, status)

    if run_id:
        attempt("the end of a run", action)


def attach(root: Path, run_id: str, paths: Iterable[Path], folder: str) -> None:
    """Log files as artifacts of a run; its status stays as it is.

    Args:
        root: The project's root folder.
        run_id: The run; nothing happens if it is an empty text.
        paths: The files.
        folder: The artifacts' folder in the run.
    """

    def action() -> None:
        client = load_mlflow().MlflowClient(tracking_uri(root))
        for path in paths:
            client.log_artifact(run_id, str(path), folder)

    if run_id:
        attempt(f"the files for {folder}", action)
