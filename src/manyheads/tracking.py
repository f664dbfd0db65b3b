"""The record of runs in MLflow: the only file that imports it.

A store that cannot be reached costs the record, never the training: the first failure is one warning, and from then
on nothing more is sent. Every figure is on disk before it is logged.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from manyheads import interruption
from manyheads.config import TrackingConfig
from manyheads.credentials import masked
from manyheads.errors import DataError, IntegrityError, MachineError
from manyheads.layout import main_project
from manyheads.pipeline import locked_digest

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from manyheads.heads import Head

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
        tags: Its tags; a known run keeps those that it has.
        parent: Run of the sweep or search that it is a point of, or an empty text.
        run_id: A run to go on with, if the store knows it.
        model: Tag of a saved model: the run that it was trained in is gone on with, if the store knows it.
    """

    name: str = ""
    tags: Mapping[str, str] = MappingProxyType({})
    parent: str = ""
    run_id: str = ""
    model: str = ""


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
            interruption.heed()  # a driver makes an error of its own of a Ctrl-C that meets it
            self.run_id = ""
            _warn(what, error)
            return None

    def params(self, values: Mapping[str, Any]) -> None:
        """Log nested settings as flat parameters, such as ``loss.weights.age``; known ones are left as they are."""
        import mlflow

        def action() -> None:
            known = mlflow.get_run(self.run_id).data.params
            mlflow.log_params({key: value for key, value in flattened(values).items() if key not in known})

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

        self._attempt("tags", lambda: mlflow.set_tags(_masked_tags(values)))

    def files(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or all files of a folder, as artifacts."""
        import mlflow

        action = mlflow.log_artifacts if path.is_dir() else mlflow.log_artifact
        self._attempt(f"artifact {path.name}", lambda: action(str(path), folder))

    def text(self, content: str, name: str) -> None:
        """Log a text as an artifact of that name."""
        import mlflow

        self._attempt(f"artifact {name}", lambda: mlflow.log_text(masked(content), name))

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
        self.text("".join(traceback.format_exception(error)), "traceback.txt")
        self.tags({"error": masked(" ".join(str(error).split()))[:500] or type(error).__name__})

    def model(self, model: keras.Model, heads: Mapping[str, Head]) -> None:
        """Log a model that takes plain inputs and returns every head by name, whoever loads it."""
        import keras
        import mlflow
        import numpy as np
        import tensorflow as tf
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        names = [output for name, head in heads.items() for output in head.output_names(name, model.output)]

        def action() -> None:
            signature = ModelSignature(
                Schema([TensorSpec(np.dtype(x.dtype), tuple(n or -1 for n in x.shape), x.name) for x in model.inputs]),
                Schema([TensorSpec(np.dtype(np.float32), (-1, *model.output[name].shape[1:]), name) for name in names]),
            )
            # Given explicitly: MLflow would otherwise start another process and import everything to find out.
            requirements = [f"tensorflow=={tf.__version__}", f"keras=={keras.__version__}", f"numpy=={np.__version__}"]
            mlflow.tensorflow.log_model(model, name="model", signature=signature, pip_requirements=requirements)

        self._attempt("model", action)


@contextmanager
def run(config: TrackingConfig, root: Path, place: Place) -> Iterator[Run]:
    """Open a run, new or known, and close it with the status that the body ends in.

    A run that is open in this process already stays open; this one lies within. What the body raises is kept in the
    run as ``traceback.txt`` and, its first line, as the tag ``error``; of ``Stopped`` the tag alone.

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
        _warn(f"a run in {masked(tracking_uri(root))}", error)
    try:
        yield current
    except (KeyboardInterrupt, Stopped) as reason:
        if isinstance(reason, Stopped):
            current.tags({"error": str(reason)})
        _end(current, "KILLED")
        raise
    except BaseException as error:
        current.failure(error)
        _end(current, "FAILED")
        raise
    _end(current, "FINISHED")


def _start(current: Run, config: TrackingConfig, root: Path, place: Place) -> None:
    client = _client(config, root)
    import mlflow

    mlflow.set_tracking_uri(tracking_uri(root))
    mlflow.set_experiment(config.experiment)
    tags, run_id = _masked_tags(place.tags), place.run_id
    if run_id and not _known(client, run_id):
        tags["trained_in_run"] = run_id
        run_id = ""
    if place.model:
        tags["model"] = place.model
        run_id = _run_of_model(client, config, place.model)
    if run_id:
        active = mlflow.start_run(run_id=run_id, nested=True)
        new = {key: value for key, value in tags.items() if key not in active.data.tags}
        mlflow.set_tags(new | ({"mlflow.parentRunId": place.parent} if place.parent else {}))
        if "error" in active.data.tags:
            mlflow.delete_tag("error")  # of the attempt before
    else:
        active = mlflow.start_run(run_name=place.name, tags=tags, nested=True, parent_run_id=place.parent or None)
    current.run_id = active.info.run_id


def _client(config: TrackingConfig, root: Path) -> Any:
    """Return a client of the store, in which the experiment exists."""
    for key, value in MANNERS.items():
        os.environ.setdefault(key, value)
    import filelock
    import mlflow

    _hush()
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


def _hush() -> None:
    """Let MLflow speak of errors alone, and through our log, which masks credentials."""
    for noisy in ("mlflow", "alembic"):
        log = logging.getLogger(noisy)
        log.setLevel(logging.ERROR)
        log.handlers.clear()
        log.propagate = True


def _run_of_model(client: Any, config: TrackingConfig, digest: str) -> str:
    """Return the newest run that left a model, points of sweeps and searches left out, or an empty text.

    A model is found by what it is: a file with the run's id beside it would differ from run to run, and DVC would take
    the same model for another one.
    """
    experiment = client.get_experiment_by_name(config.experiment)
    order = ["attributes.start_time DESC"]
    found = client.search_runs([experiment.experiment_id], f"tags.model = '{digest}'", order_by=order)
    return next((str(run.info.run_id) for run in found if "point" not in run.data.tags), "")


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
    logger.warning(
        "warning: MLflow did not take %s (%s); the work goes on without a record, its figures are on disk in reports/",
        what,
        _reason(error),
    )


def _reason(error: Exception) -> str:
    # Masked before it is cut, or half a password would be none.
    return (masked(str(error)).splitlines() or [type(error).__name__])[0][:200]


def _masked_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: masked(value) for key, value in tags.items()}


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as flat ones with dotted names; lists become text."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
    return flat


def listed(values: Iterable[str]) -> str:
    """Return several words as the text of one tag, to be read as JSON."""
    return json.dumps(list(values))


def close(root: Path, run_id: str, status: str) -> None:
    """End a run whose process died; without a store, or where the run has ended, nothing happens."""
    import mlflow

    current = Run(root)
    current.run_id = run_id

    def action() -> None:
        client = mlflow.MlflowClient(tracking_uri(root))
        if client.get_run(run_id).info.status == "RUNNING":
            client.set_terminated(run_id, status)

    current._attempt("the end of a run", action)


def shared_run(config: TrackingConfig, root: Path, place: Place) -> str:
    """Return the id of a run, new or known, that belongs to several processes, or an empty text without a store.

    It is open in none of them: ``set_status`` ends it, ``attach`` gives it files.
    """
    try:
        client = _client(config, root)
        if place.run_id and _known(client, place.run_id):
            return place.run_id
        experiment = client.get_experiment_by_name(config.experiment)
        run = client.create_run(experiment.experiment_id, tags=_masked_tags(place.tags), run_name=place.name)
        return str(run.info.run_id)
    except Exception as error:
        _warn(f"a run in {masked(tracking_uri(root))}", error)
        return ""


def set_status(root: Path, run_id: str, status: str) -> None:
    """Say how a run stands that is open in no process: ``RUNNING``, or how it ended."""
    import mlflow

    current = Run(root)
    current.run_id = run_id

    def action() -> None:
        client = mlflow.MlflowClient(tracking_uri(root))
        if status == "RUNNING":
            client.update_run(run_id, status)
        else:
            client.set_terminated(run_id, status)

    current._attempt("the status of a run", action)


def model_tag(folder: Path) -> str:
    """Return what the runs of a saved model have as their tag ``model``: the start of its digest.

    Raises:
        IntegrityError: ``model.json`` is missing or damaged.
    """
    path = folder / "model.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["digest"])[:16]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path} is missing or damaged ({error}): run `dvc repro train`") from error


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


# Of the 32 characters of a run's id; MLflow's own pages show as many.
SHORTEST_PREFIX = 6


class RecordedRun(NamedTuple):
    """One run as the store has it.

    Attributes:
        run_id: Its id.
        name: Its name.
        status: ``FINISHED``, ``FAILED``, ``KILLED``, ``RUNNING`` or ``SCHEDULED``.
        params: Flat settings.
        metrics: The last value of each figure.
        tags: Its tags, MLflow's own among them.
    """

    run_id: str
    name: str
    status: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


class RecordedPoints(NamedTuple):
    """Trainings to compare, in the order of their start, and the sweeps or searches that they were taken from."""

    runs: tuple[RecordedRun, ...]
    parents: tuple[str, ...]


def recorded_points(config: TrackingConfig, root: Path, run_ids: Sequence[str] = (), query: str = "") -> RecordedPoints:
    """Return the trainings that the store has of an experiment.

    Args:
        config: The experiment.
        root: The project's root folder.
        run_ids: Ids of runs, or their first characters, at least 6. A sweep or search stands for its points. Without
            ids: the points of the newest sweep or search or, with a query, all trainings.
        query: What else must hold, in MLflow's filter language.

    Raises:
        DataError: An id is not known or stands for several runs, or no training is left.
        MachineError: The store cannot be reached.
    """
    found, matching = _recorded_runs(config, root, query)
    where = f"the experiment {config.experiment!r} of {masked(tracking_uri(root))}"
    named_parents = {run.tags["mlflow.parentRunId"] for run in found.values() if "mlflow.parentRunId" in run.tags}
    # A point has its sweep's tag, too; a sweep without points yet has no child that names it.
    groups = {
        run_id for run_id, run in found.items()
        if run_id in named_parents or ({"sweep", "search"} & set(run.tags) and "point" not in run.tags)
    }  # fmt: skip
    chosen = [_the_run(prefix, found, where) for prefix in run_ids]
    if not run_ids and not query:
        chosen = [run_id for run_id in found if run_id in named_parents][-1:]
        if not chosen:
            raise DataError(f"{where} has no sweep: start one (`python -m manyheads train -m seed=1,2`) or name runs")
    parents = tuple(run_id for run_id in chosen if run_id in groups)
    runs = tuple(
        run for run_id, run in found.items()
        if run_id not in groups
        and (not chosen or run_id in chosen or run.tags.get("mlflow.parentRunId") in parents)
        and (matching is None or run_id in matching)
    )  # fmt: skip
    if not runs:
        among = f" among {', '.join(chosen)}" if chosen else ""
        raise DataError(f"{where} has no training{among}{f' for which {query}' if query else ''}: see `make ui`")
    return RecordedPoints(runs, parents)


def _recorded_runs(config: TrackingConfig, root: Path, query: str) -> tuple[dict[str, RecordedRun], set[str] | None]:
    """Return all runs by id, the oldest first, and the ids for which the query holds, if there is one."""
    for key, value in MANNERS.items():
        os.environ.setdefault(key, value)
    uri = tracking_uri(root)
    # MLflow would make an empty one.
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise DataError(f"there is no record of runs at {masked(uri)}: train first, or set MLFLOW_TRACKING_URI")
    import mlflow
    from mlflow.exceptions import MlflowException

    _hush()
    try:
        client = mlflow.MlflowClient(uri)
        experiment = client.get_experiment_by_name(config.experiment)
        if experiment is None:
            raise DataError(f"{masked(uri)} has no experiment {config.experiment!r}: train first")
        runs = {
            run.info.run_id: RecordedRun(
                run.info.run_id, run.info.run_name, run.info.status, run.data.params, run.data.metrics, run.data.tags
            )
            for run in _pages(client, experiment.experiment_id, "")
        }
        if not query:
            return runs, None
        return runs, {run.info.run_id for run in _pages(client, experiment.experiment_id, query)}
    except DataError:
        raise
    except Exception as error:  # whatever a store, a driver or a server raises
        reason = _reason(error)
        if isinstance(error, MlflowException) and error.error_code == "INVALID_PARAMETER_VALUE" and query:
            raise DataError(f"MLflow does not understand the filter {query!r}: {reason}") from error
        raise MachineError(
            f"the record of runs at {masked(uri)} cannot be read ({reason}): start its server, or mend "
            "MLFLOW_TRACKING_URI"
        ) from error


def _pages(client: Any, experiment: str, query: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs([experiment], query, order_by=["attributes.start_time ASC"], page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _the_run(prefix: str, found: Mapping[str, RecordedRun], where: str) -> str:
    if len(prefix) < SHORTEST_PREFIX:
        raise DataError(f"{prefix!r} is too short for a run: give at least {SHORTEST_PREFIX} characters of its id")
    matches = [run_id for run_id in found if run_id.startswith(prefix)]
    if not matches:
        raise DataError(f"{where} has no run {prefix!r}: `make ui` shows the ids")
    if len(matches) > 1:
        raise DataError(f"{len(matches)} runs begin with {prefix!r}: give more of the id")
    return matches[0]


def test_predictions(config: TrackingConfig, root: Path, run_id: str) -> Path | None:
    """Return the table of predictions that evaluate wrote into a run, or None if there is no such run.

    Args:
        config: The experiment.
        root: The project's root folder.
        run_id: Id of a run, or its first characters, at least 6.

    Raises:
        DataError: The run was not evaluated, or the characters stand for several runs.
        MachineError: The store cannot be reached.
    """
    found, _ = _recorded_runs(config, root, "")
    matches = [each for each in found if each.startswith(run_id)] if len(run_id) >= SHORTEST_PREFIX else []
    if not matches:
        return None
    if len(matches) > 1:
        raise DataError(f"{len(matches)} runs begin with {run_id!r}: give more of the id")
    import mlflow

    try:
        path = mlflow.artifacts.download_artifacts(
            run_id=matches[0], artifact_path="predictions.csv", tracking_uri=tracking_uri(root)
        )
    except Exception as error:  # whatever a store, a driver or a server raises
        reason = _reason(error)
        raise DataError(
            f"run {run_id} has no predictions of the test part ({reason}): promote it with `dvc exp run`"
        ) from error
    return Path(path)


def attach(root: Path, run_id: str, paths: Iterable[Path], folder: str) -> None:
    """Log files as artifacts of a run that has ended or goes on elsewhere; its status stays as it is.

    Args:
        root: The project's root folder.
        run_id: The run; an empty text if there is no record.
        paths: The files.
        folder: The artifacts' folder in the run.
    """
    import mlflow

    current = Run(root)
    current.run_id = run_id

    def action() -> None:
        client = mlflow.MlflowClient(tracking_uri(root))
        for path in paths:
            client.log_artifact(run_id, str(path), folder)

    current._attempt(f"the files for {folder}", action)
