"""The record of runs in MLflow: the only file that imports it.

A store that cannot be reached costs the record, never the training: the first failure is one warning, and from then
on nothing more is sent. Every figure is on disk before it is logged.
"""

from __future__ import annotations

import logging
import os
import subprocess
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from manyheads.config import TrackingConfig
from manyheads.layout import main_project
from manyheads.pipeline import locked_digest

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from manyheads.heads import Head

logger = logging.getLogger(__name__)

# A tracking server that does not answer should cost seconds, not MLflow's default of many minutes.
IMPATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A training is ended on purpose; its run ends as KILLED."""


# Lets the MLflow UI open on training runs; it would open on those of language models.
KIND_OF_EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}


def tracking_uri(root: Path) -> str:
    """Return ``MLFLOW_TRACKING_URI``, or the SQLite store beside the main project's ``dvc.yaml``."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{main_project(root) / 'mlflow.db'}"


class Place(NamedTuple):
    """Where a run belongs.

    Attributes:
        name: Name of a new run.
        tags: Tags of a new run.
        parent: Run of the sweep or search that it is a point of, or an empty text.
        run_id: A run to go on with, if the store knows it.
    """

    name: str = ""
    tags: Mapping[str, str] = MappingProxyType({})
    parent: str = ""
    run_id: str = ""


class Run:
    """One MLflow run, or nothing at all once the store has failed.

    Attributes:
        run_id: The run's id; an empty text if there is no record.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run_id = ""

    def _attempt(self, what: str, action: Callable[[], Any]) -> Any:
        if not self.run_id:
            return None
        # Whatever a store, a driver or a server raises: the record is lost from here on, the work is not.
        try:
            return action()
        except Exception as error:
            self.run_id = ""
            _warn(what, error)
            return None

    def params(self, values: Mapping[str, Any]) -> None:
        """Log nested settings as flat parameters, such as ``loss.weights.age``; known ones are left as they are."""
        import mlflow

        def action() -> None:
            known = mlflow.get_run(self.run_id).data.params
            mlflow.log_params({key: value for key, value in _flattened(values).items() if key not in known})

        self._attempt("parameters", action)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log figures; each name stands for one line in the charts."""
        import mlflow

        self._attempt("metrics", lambda: mlflow.log_metrics(dict(values), step=step))

    def missing_epochs(self, history: Sequence[Mapping[str, float]]) -> None:
        """Log the epochs of an earlier part of this run that the store did not get before it was stopped."""
        import mlflow

        def action() -> None:
            name = next(iter(history[0]))
            known = {point.step for point in mlflow.MlflowClient().get_metric_history(self.run_id, name)}
            for epoch, row in enumerate(history, start=1):
                if epoch not in known:
                    mlflow.log_metrics(dict(row), step=epoch)

        if history:
            self._attempt("metrics", action)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        import mlflow

        self._attempt("tags", lambda: mlflow.set_tags(dict(values)))

    def files(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or all files of a folder, as artifacts."""
        import mlflow

        action = mlflow.log_artifacts if path.is_dir() else mlflow.log_artifact
        self._attempt(f"artifact {path.name}", lambda: action(str(path), folder))

    def dataset(self, labels: pd.DataFrame, name: str, source: str, context: str) -> None:
        """Log which data the run used, under the digest that DVC has for it.

        Args:
            labels: The labels of the part that was used.
            name: Name of the dataset and its part; a run keeps one entry for each name.
            source: Path of the raw data, relative to the project's root.
            context: ``training`` or ``test``.
        """
        import mlflow.data.pandas_dataset

        digest = locked_digest(self.root, source) or "not in dvc.lock"

        def action() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # hints that whole-number columns cannot hold missing values
                dataset = mlflow.data.pandas_dataset.from_pandas(labels, source=source, name=name, digest=digest)
                mlflow.log_input(dataset, context=context)

        self._attempt("dataset", action)

    def failure(self, error: BaseException) -> None:
        """Keep what went wrong: the traceback as an artifact, its last line as a tag."""
        import mlflow

        text = "".join(traceback.format_exception(error))
        self._attempt("traceback", lambda: mlflow.log_text(text, "traceback.txt"))
        self.tags({"error": " ".join(str(error).split())[:500] or type(error).__name__})

    def model(self, model: keras.Model, heads: Mapping[str, Head], size: int) -> None:
        """Log a model that takes uint8 images and returns every head by name, whoever loads it."""
        import keras
        import mlflow
        import numpy as np
        import tensorflow as tf
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        def action() -> None:
            signature = ModelSignature(
                Schema([TensorSpec(np.dtype(np.uint8), (-1, size, size, 3), "image")]),
                Schema([TensorSpec(np.dtype(np.float32), (-1, *model.output[name].shape[1:]), name) for name in heads]),
            )
            # Given explicitly: MLflow would otherwise start another process and import everything to find out.
            requirements = [f"tensorflow=={tf.__version__}", f"keras=={keras.__version__}", f"numpy=={np.__version__}"]
            mlflow.tensorflow.log_model(model, name="model", signature=signature, pip_requirements=requirements)

        self._attempt("model", action)


@contextmanager
def run(config: TrackingConfig, root: Path, place: Place) -> Iterator[Run]:
    """Open a run, new or known, and close it with the status that the body ends in.

    A run that is open in this process already stays open; this one lies within. What the body raises is kept in the
    run as ``traceback.txt`` and, its first line, as the tag ``error``.

    Args:
        config: The experiment.
        root: The project's root folder.
        place: Name, tags, parent. Where the store does not know ``run_id``, a new run is made, tagged with it.

    Yields:
        The run; it accepts everything and records nothing if the store cannot be reached.
    """
    current = Run(root)
    try:
        _start(current, config, root, place)
    except Exception as error:
        current.run_id = ""
        _warn(f"a run in {_shown(tracking_uri(root))}", error)
    try:
        yield current
    except (KeyboardInterrupt, Stopped):
        _end(current, "KILLED")
        raise
    except BaseException as error:
        current.failure(error)
        _end(current, "FAILED")
        raise
    _end(current, "FINISHED")


def _start(current: Run, config: TrackingConfig, root: Path, place: Place) -> None:
    for key, value in IMPATIENCE.items():
        os.environ.setdefault(key, value)
    import filelock
    import mlflow

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    uri = tracking_uri(root)
    mlflow.set_tracking_uri(uri)
    local = uri.startswith("sqlite:")
    main = main_project(root)
    (main / ".cache").mkdir(exist_ok=True)
    # Two processes that open a fresh SQLite store at once both migrate it, and break it for good.
    with filelock.FileLock(main / ".cache/mlflow.lock"):
        client = mlflow.MlflowClient()
        if client.get_experiment_by_name(config.experiment) is None:
            # Absolute, for MLflow would take it from the working directory, which may be a temporary copy.
            location = (main / "mlruns").as_uri() if local else None
            client.create_experiment(config.experiment, location, tags=KIND_OF_EXPERIMENT)
    mlflow.set_experiment(config.experiment)
    tags, run_id = dict(place.tags), place.run_id
    if run_id and not _known(client, run_id):
        tags["trained_in_run"] = run_id
        run_id = ""
    active = (
        mlflow.start_run(run_id=run_id, nested=True)
        if run_id
        else mlflow.start_run(run_name=place.name, tags=tags, nested=True, parent_run_id=place.parent or None)
    )
    current.run_id = active.info.run_id


def _known(client: Any, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


def _end(current: Run, status: str) -> None:
    import mlflow

    # Also after a failure: MLflow would try again by itself when the process ends.
    try:
        mlflow.end_run(status)
    except Exception as error:
        if current.run_id:
            _warn("the end of the run", error)


def _warn(what: str, error: Exception) -> None:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    logger.warning(
        "warning: MLflow did not take %s (%s); the work goes on without a record, its figures are on disk in reports/",
        what,
        reason,
    )


def _shown(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
    return flat


def provenance(root: Path) -> dict[str, str]:
    """Return tags that tie a run to its code and its DVC experiment."""
    tags = {}
    commit = _git(root, "rev-parse", "HEAD")
    if commit is not None:
        tags["git.commit"] = commit
        tags["git.dirty"] = str(bool(_git(root, "status", "--porcelain"))).lower()
    for tag, variable in (
        ("dvc.experiment", "DVC_EXP_NAME"),
        ("dvc.baseline", "DVC_EXP_BASELINE_REV"),
        ("dvc.stage", "DVC_STAGE"),
    ):
        if value := os.environ.get(variable):
            tags[tag] = value
    return tags


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
