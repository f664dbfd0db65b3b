"""The record of runs in MLflow: the only file that imports it.

A store that cannot be reached costs the record, never the training: the first failure is one warning, and from then
on nothing more is sent. Every figure is on disk before it is logged.
"""

from __future__ import annotations

import json
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from manyheads.config.schema import TrackingConfig
from manyheads.errors import TrainingStopped
from manyheads.runtime import signals
from manyheads.runtime.credentials import masked
from manyheads.tracking.dvc import locked_digest
from manyheads.tracking.store import is_known, masked_tags, open_client, tracking_uri, warn_once

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from manyheads.heads import Head


class RunSpec(NamedTuple):
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
            signals.raise_if_interrupted()  # a driver makes an error of its own of a Ctrl-C that meets it
            self.run_id = ""
            warn_once(what, error)
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

        self._attempt("tags", lambda: mlflow.set_tags(masked_tags(values)))

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

        names = [output for name, head in heads.items() for output in head.output_names(model.output)]

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
def run(config: TrackingConfig, root: Path, place: RunSpec) -> Iterator[Run]:
    """Open a run, new or known, and end_dead_run it with the status that the body ends in.

    A run that is open in this process already stays open; this one lies within. What the body raises is kept in the
    run as ``traceback.txt`` and, its first line, as the tag ``error``; of ``TrainingStopped`` the tag alone.

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
        warn_once(f"a run in {masked(tracking_uri(root))}", error)
    try:
        yield current
    except (KeyboardInterrupt, TrainingStopped) as reason:
        if isinstance(reason, TrainingStopped):
            current.tags({"error": str(reason)})
        _end(current, "KILLED")
        raise
    except BaseException as error:
        current.failure(error)
        _end(current, "FAILED")
        raise
    _end(current, "FINISHED")


def _start(current: Run, config: TrackingConfig, root: Path, place: RunSpec) -> None:
    client = open_client(config, root)
    import mlflow

    mlflow.set_tracking_uri(tracking_uri(root))
    mlflow.set_experiment(config.experiment)
    tags, run_id = masked_tags(place.tags), place.run_id
    if run_id and not is_known(client, run_id):
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


def _run_of_model(client: Any, config: TrackingConfig, digest: str) -> str:
    """Return the newest run that left a model, points of sweeps and searches left out, or an empty text.

    A model is found by what it is: a file with the run's id beside it would differ from run to run, and DVC would take
    the same model for another one.
    """
    experiment = client.get_experiment_by_name(config.experiment)
    order = ["attributes.start_time DESC"]
    found = client.search_runs([experiment.experiment_id], f"tags.model = '{digest}'", order_by=order)
    return next((str(run.info.run_id) for run in found if "point" not in run.data.tags), "")


def _end(current: Run, status: str) -> None:
    import mlflow

    # Also after a failure: MLflow would try again by itself when the process ends.
    try:
        mlflow.end_run(status)
    except Exception as error:
        if current.run_id:
            warn_once("the end of the run", error)


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as flat ones with dotted names; lists become text."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
    return flat


def as_json_list(values: Iterable[str]) -> str:
    """Return several words as the text of one tag, to be read as JSON."""
    return json.dumps(list(values))


def end_dead_run(root: Path, run_id: str, status: str) -> None:
    """End a run whose process died; without a store, or where the run has ended, nothing happens."""
    import mlflow

    current = Run(root)
    current.run_id = run_id

    def action() -> None:
        client = mlflow.MlflowClient(tracking_uri(root))
        if client.get_run(run_id).info.status == "RUNNING":
            client.set_terminated(run_id, status)

    current._attempt("the end of a run", action)


def open_shared_run(config: TrackingConfig, root: Path, place: RunSpec) -> str:
    """Return the id of a run, new or known, that belongs to several processes, or an empty text without a store.

    It is open in none of them: ``set_status`` ends it, ``attach`` gives it files.
    """
    try:
        client = open_client(config, root)
        if place.run_id and is_known(client, place.run_id):
            return place.run_id
        experiment = client.get_experiment_by_name(config.experiment)
        run = client.create_run(experiment.experiment_id, tags=masked_tags(place.tags), run_name=place.name)
        return str(run.info.run_id)
    except Exception as error:
        warn_once(f"a run in {masked(tracking_uri(root))}", error)
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
