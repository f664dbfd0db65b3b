"""The connection to the MLflow store: its address, its client, and its failures."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from manyheads.errors import DataError, MachineError, ManyheadsError
from manyheads.paths import main_project
from manyheads.runtime import signals
from manyheads.runtime.credentials import masked
from manyheads.runtime.locks import waiting_lock

logger = logging.getLogger(__name__)

CLIENT_SETTINGS = {
    # MLflow's default is to wait many minutes for a server that does not answer.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    # The server's address after each run, and a progress bar for each file, would clutter the terminal.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

FIRST_CONTACT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""A server that does not answer a first question at once is not asked again."""

# With this tag, the MLflow UI opens on its pages for training runs instead of those for language models.
KIND_OF_EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}


def tracking_uri(root: Path) -> str:
    """Return ``MLFLOW_TRACKING_URI``, or the SQLite store beside the main project's ``dvc.yaml``."""
    if address := os.environ.get("MLFLOW_TRACKING_URI"):
        return address
    path = str(main_project(root) / "mlflow.db")
    # In an address, these two would begin a code and what follows the path.
    return f"sqlite:///{path.replace('%', '%25').replace('?', '%3F')}"


def is_missing(uri: str) -> bool:
    """Return whether the address of a store is that of an SQLite file that is not there; MLflow would make it."""
    return uri.startswith("sqlite:///") and not Path(unquote(uri.removeprefix("sqlite:///"))).exists()


def load_mlflow() -> Any:
    """Import MLflow with short timeouts and return it.

    It logs nothing but what it calls critical: it would add the traceback to each error that is reported here.
    """
    for key, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(key, value)
    import mlflow

    for name in ("mlflow", "alembic", "urllib3"):
        log = logging.getLogger(name)
        log.setLevel(logging.CRITICAL)
        log.handlers.clear()
        log.propagate = True
    return mlflow


@contextmanager
def impatient() -> Iterator[None]:
    """Let MLflow ask a server once and wait for a few seconds, in the body."""
    before = {key: os.environ.get(key) for key in FIRST_CONTACT}
    os.environ.update(FIRST_CONTACT)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})


def client_of(uri: str) -> Any:
    """Return an MLflow client for a store that answers; the errors of the store are raised as they are."""
    client = load_mlflow().MlflowClient(uri)
    if uri.startswith("http"):
        with impatient():
            client.search_experiments(max_results=1)
    return client


def store_lock(root: Path) -> AbstractContextManager[Any]:
    """Hold the lock of changes that two processes of this project must not make to the store at once."""
    return waiting_lock(main_project(root) / ".cache/mlflow.lock")


@contextmanager
def open_store(root: Path) -> Iterator[Any]:
    """Yield an MLflow client of a store that is there; errors of the store are raised as one line.

    Args:
        root: The project's root folder.

    Raises:
        DataError: There is no store yet.
        MachineError: The store cannot be reached.
    """
    uri = tracking_uri(root)
    if is_missing(uri):
        raise DataError(f"there is no record of runs at {masked(uri)}: train first, or set MLFLOW_TRACKING_URI")
    try:
        mlflow = load_mlflow()
        mlflow.set_tracking_uri(uri)  # MLflow itself asks for it where a logged model is registered or downloaded
        yield client_of(uri)
    except ManyheadsError:
        raise
    except Exception as error:  # whatever a store, a driver or a server raises
        signals.raise_if_interrupted()
        raise MachineError(
            f"the record of runs at {masked(uri)} cannot be read ({reason_of(error)}): start its server, or correct "
            "MLFLOW_TRACKING_URI"
        ) from error


def open_experiment(experiment: str, root: Path) -> tuple[Any, str]:
    """Return an MLflow client and the id of an experiment; the experiment is made if the store lacks it.

    Args:
        experiment: Name of the experiment.
        root: The project's root folder.
    """
    mlflow = load_mlflow()
    uri, main = tracking_uri(root), main_project(root)
    if uri.startswith("http"):
        client_of(uri)  # before others have to wait for the lock
    # Two processes that open a new SQLite store at once would both migrate it and corrupt it.
    with store_lock(root):
        client = mlflow.MlflowClient(uri)
        known = client.get_experiment_by_name(experiment)
        if known is not None:
            return client, str(known.experiment_id)
        # Absolute, because MLflow's default is relative to the working directory, which may be a temporary copy.
        location = (main / "mlruns").as_uri() if uri.startswith("sqlite:") else None
        return client, str(client.create_experiment(experiment, location, tags=KIND_OF_EXPERIMENT))


def is_active(client: Any, run_id: str) -> bool:
    """Return whether the store has a run and it is not deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


def attempt(what: str, action: Callable[[], object]) -> bool:
    """Run an action on the store and return whether it succeeded; a failure logs one warning.

    A Ctrl-C during the action is raised, even if a driver turns it into another error.

    Args:
        what: What is sent, as in "MLflow did not take ...".
        action: Sends it.
    """
    try:
        action()
    except Exception as error:  # whatever a store, a driver or a server raises
        signals.raise_if_interrupted()
        warn_not_taken(what, error)
        return False
    return True


def warn_not_taken(what: str, error: Exception) -> None:
    """Log that the store did not take something, and why."""
    logger.warning(
        "warning: MLflow did not take %s (%s); the work goes on without a record, its results are on disk in reports/",
        what,
        reason_of(error),
    )


def reason_of(error: Exception) -> str:
    """Return the first line of an error, without credentials, at most 200 characters."""
    # Masked before it is cut, because a cut password would not be recognised.
    lines = masked(str(error)).splitlines()
    # SQLAlchemy puts a line before the reason that is about its sessions.
    reasons = [line for line in lines if not line.startswith("(raised as a result of")] or lines
    return (reasons or [type(error).__name__])[0][:200]


def masked_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags without the credentials that their values may hold."""
    return {key: masked(value) for key, value in tags.items()}
