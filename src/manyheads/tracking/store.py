"""TODO manyheads.tracking.store."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manyheads.config.schema import TrackingConfig
from manyheads.paths import main_project
from manyheads.runtime.credentials import masked

if TYPE_CHECKING:
    pass
logger = logging.getLogger(__name__)


MANNERS = {
    # A tracking server that does not answer should cost seconds, not MLflow's default of many minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    # A server's address after each run, or a bar for each small file, would stand amid our own tables.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


# Lets the MLflow UI open on training runs; it would open on those of language models.
KIND_OF_EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}


def tracking_uri(root: Path) -> str:
    """Return ``MLFLOW_TRACKING_URI``, or the SQLite store beside the main project's ``dvc.yaml``."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{main_project(root) / 'mlflow.db'}"


def open_client(config: TrackingConfig, root: Path) -> Any:
    """Return a client of the store, in which the experiment exists."""
    for key, value in MANNERS.items():
        os.environ.setdefault(key, value)
    import filelock
    import mlflow

    quiet_mlflow()
    uri = tracking_uri(root)
    local = uri.startswith("sqlite:")
    main = main_project(root)
    (main / ".cache").mkdir(exist_ok=True)
    # Two processes that open a fresh SQLite store at once both migrate it, and break it for good.
    with filelock.FileLock(main / ".cache/mlflow.lock"):
        client = mlflow.MlflowClient(uri)
        if client.get_experiment_by_name(config.experiment) is None:
            # Absolute, for MLflow would take it from the working directory, which may be a temporary copy.
            location = (main / "mlruns").as_uri() if local else None
            client.create_experiment(config.experiment, location, tags=KIND_OF_EXPERIMENT)
    return client


def quiet_mlflow() -> None:
    """Let MLflow speak of errors alone, and through our log, which masks credentials."""
    for noisy in ("mlflow", "alembic"):
        log = logging.getLogger(noisy)
        log.setLevel(logging.ERROR)
        log.handlers.clear()
        log.propagate = True


def is_known(client: Any, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


def warn_once(what: str, error: Exception) -> None:
    logger.warning(
        "warning: MLflow did not take %s (%s); the work goes on without a record, its figures are on disk in reports/",
        what,
        reason_of(error),
    )


def reason_of(error: Exception) -> str:
    # Masked before it is cut, or half a password would be none.
    return (masked(str(error)).splitlines() or [type(error).__name__])[0][:200]


def masked_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: masked(value) for key, value in tags.items()}
