"""The record of one training in MLflow: its settings, metrics, files, data and model.

If the store cannot be reached, the training goes on without a record: the first failure logs one warning, and nothing
more is sent. Every metric is on disk before it is logged.
"""

from __future__ import annotations

import json
import os
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from manyheads.errors import IntegrityError, TrainingStopped
from manyheads.runtime.credentials import masked
from manyheads.tracking import descriptions, logged_model, open_runs, views
from manyheads.tracking import network as network_page
from manyheads.tracking.dvc import locked_digest
from manyheads.tracking.store import (
    attempt,
    impatient,
    is_active,
    masked_tags,
    open_experiment,
    tracking_uri,
    warn_not_taken,
)

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from manyheads.heads import Head
    from manyheads.inputs import Input


NAMED_DIFFERENCES = 4
"""Maximum number of settings in the name of a run."""


class RunSpec(NamedTuple):
    """Specification of an MLflow run before it is opened.

    Attributes:
        name: Name of a new run. A known run keeps its name.
        tags: Tags by name. A known run gets those that it lacks.
        parent: Id of the run of the sweep or search, if the run is a trial; otherwise an empty text.
        run_id: Id of the run to continue. A new run is made if this is an empty text or the store lacks the run; in the
            second case the new run has this id as its tag ``trained_in_run``.
        model: Tag of a saved model, or an empty text. If it is given, the newest run with this model is continued and
            ``run_id`` is ignored; a new run is made if the store has none.

    Example:
        >>> RunSpec("age=0.3", {"trial": "1f2e3d4c"}, parent="90aa17c5").run_id
        ''
    """

    name: str = ""
    tags: Mapping[str, str] = MappingProxyType({})
    parent: str = ""
    run_id: str = ""
    model: str = ""


def spec_of_differences(differs: Sequence[str]) -> RunSpec:
    """Return the specification of the run of a training whose settings differ from the default in some overrides.

    Example:
        >>> spec_of_differences(["loss=age_heavy", "train.epochs=8"]).name
        'loss=age_heavy epochs=8'
    """
    keys = [override.partition("=")[0].rpartition(".")[2] for override in differs]
    short = [
        override.removeprefix(override.partition("=")[0].removesuffix(key)) if keys.count(key) == 1 else override
        for key, override in zip(keys, differs, strict=True)
    ]
    more = f" +{len(short) - NAMED_DIFFERENCES}" if len(short) > NAMED_DIFFERENCES else ""
    experiment = os.environ.get("DVC_EXP_NAME")
    name = " ".join(short[:NAMED_DIFFERENCES]) + more if short else "default"
    return RunSpec(f"{name} · {experiment}" if experiment else name, {"differs": json.dumps(list(differs))})


class Run:
    """One MLflow run that this process has open; after the first failure of the store it records nothing.

    Attributes:
        root: The project's root folder.
        run_id: The run's id; an empty text if nothing is recorded.
    """

    def __init__(self, root: Path, run_id: str = "") -> None:
        self.root = root
        self.run_id = run_id

    def _attempt(self, what: str, action: Callable[[], object]) -> None:
        if self.run_id and not attempt(what, action):
            self.run_id = ""

    def params(self, values: Mapping[str, Any]) -> None:
        """Log nested settings as flat parameters, such as ``loss.weights.age``; known ones keep their values."""
        import mlflow

        def action() -> None:
            known = mlflow.get_run(self.run_id).data.params
            mlflow.log_params({key: value for key, value in flattened(values).items() if key not in known})

        self._attempt("parameters", action)

    def settings(self, values: Mapping[str, Any]) -> None:
        """Log nested settings as the artifact ``params.yaml``, from which the pipeline makes the run again."""
        self.text(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True), "params.yaml")

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics by name, at an epoch if ``step`` is given."""
        import mlflow

        self._attempt("metrics", lambda: mlflow.log_metrics(dict(values), step=step))

    def results(self, values: Mapping[str, float]) -> None:
        """Log metrics of the finished model by name; MLflow shows them beside the model as well."""
        import mlflow

        self._attempt("metrics", lambda: mlflow.log_metrics(dict(values), model_id=logged_model.find(self.run_id)))

    def missing_epochs(self, history: Sequence[Mapping[str, float]]) -> None:
        """Log the epochs of a training that the store lacks.

        Args:
            history: Metrics of each epoch, the first epoch first.
        """
        import mlflow

        def action() -> None:
            name = next(iter(history[0]))
            known = {metric.step for metric in mlflow.MlflowClient().get_metric_history(self.run_id, name)}
            for epoch, row in enumerate(history, start=1):
                if epoch not in known:
                    mlflow.log_metrics(dict(row), step=epoch)

        if history:
            self._attempt("metrics", action)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags; credentials in their values are masked."""
        import mlflow

        self._attempt("tags", lambda: mlflow.set_tags(masked_tags(values)))

    def files(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or all files of a folder, as artifacts."""
        import mlflow

        action = mlflow.log_artifacts if path.is_dir() else mlflow.log_artifact
        self._attempt(f"artifact {path.name}", lambda: action(str(path), folder))

    def text(self, content: str, name: str) -> None:
        """Log a text as an artifact with a name; credentials in it are masked."""
        import mlflow

        self._attempt(f"artifact {name}", lambda: mlflow.log_text(masked(content), name))

    def dataset(self, labels: pd.DataFrame, name: str, source: str, context: str) -> None:
        """Log the data that the run used, with DVC's digest of it.

        Args:
            labels: The labels of the subset, one row a sample.
            name: Name of the dataset and its subset; a run keeps one entry for each name.
            source: Path of the raw data, relative to the project's root.
            context: ``training`` or ``test``.
        """
        import mlflow.data.pandas_dataset

        digest = locked_digest(self.root, source) or "not in dvc.lock"

        def action() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of whole-number columns, which cannot hold missing values
                dataset = mlflow.data.pandas_dataset.from_pandas(labels, source=source, name=name, digest=digest)
                mlflow.log_input(dataset, context=context)

        self._attempt("dataset", action)

    def describe(self) -> None:
        """Write the run's description anew, from what the store has of it, and save the view of its data's runs."""
        import mlflow

        def action() -> None:
            client = mlflow.MlflowClient()
            run, files = client.get_run(self.run_id), client.list_artifacts(self.run_id)
            described = descriptions.Described(
                run.info.run_id, run.info.experiment_id, run.data.params, run.data.metrics, run.data.tags,
                [file.path for file in files], logged_model.find(self.run_id) or "",
            )  # fmt: skip
            client.set_tag(self.run_id, descriptions.TAG, masked(descriptions.describe(described)))
            if (view := descriptions.view_by_score(described)) is not None:
                views.save(client, self.root, run.info.experiment_id, view)

        self._attempt("description", action)

    def failure(self, error: BaseException) -> None:
        """Record an error: its traceback as ``traceback.txt``, the start of its message as the tag ``error``."""
        self.text("".join(traceback.format_exception(error)), "traceback.txt")
        self.tags({"error": masked(" ".join(str(error).split()))[:500] or type(error).__name__})

    def model(self, folder: Path, network: keras.Model, inputs: Mapping[str, Input], heads: Mapping[str, Head]) -> None:
        """Log a saved model, a drawing of it as ``network.html`` and its layers as ``layers.txt``.

        Args:
            folder: The folder of the saved model.
            network: The same model, loaded.
            inputs: Its inputs by name.
            heads: Its heads by name.
        """
        import mlflow

        self._attempt("model", lambda: logged_model.log(self.run_id, folder, network, inputs, heads))
        self._attempt("drawing", lambda: mlflow.log_text(network_page.drawing(network, heads), "network.html"))
        self._attempt("table of layers", lambda: mlflow.log_text(network_page.layer_table(network), "layers.txt"))

    def add_to_model(self, texts: Mapping[str, str], description: str = "") -> None:
        """Add texts to the run's logged model, if it has one; credentials in them are masked.

        Args:
            texts: Files by name, for the folder of the saved model.
            description: What MLflow shows on the model's page, in Markdown.
        """
        safe = {name: masked(text) for name, text in texts.items()}
        self._attempt("files of the model", lambda: logged_model.add(self.run_id, safe, masked(description)))


@contextmanager
def run(experiment: str, root: Path, spec: RunSpec) -> Iterator[Run]:
    """Open a run, new or known, and end it with the status of the body.

    A run that this process has open stays open. An error of the body is recorded as ``traceback.txt`` and as the tag
    ``error``; ``TrainingStopped`` is recorded as the tag alone.

    Args:
        experiment: Name of the MLflow experiment.
        root: The project's root folder.
        spec: Name, tags and parent of the run, or the run to continue.

    Yields:
        The run. If the store cannot be reached, its methods do nothing.
    """
    current = Run(root)
    try:
        current.run_id = _start(experiment, root, spec)
    except Exception as error:  # whatever a store, a driver or a server raises
        warn_not_taken(f"a run in {masked(tracking_uri(root))}", error)
    else:
        open_runs.end_dead_runs(root)
    with open_runs.noted(root, current.run_id) as delete_note:
        try:
            yield current
        except (KeyboardInterrupt, TrainingStopped) as reason:
            if isinstance(reason, TrainingStopped):
                current.tags({"error": str(reason)})
            _end(current, "KILLED", delete_note)
            raise
        except BaseException as error:
            current.failure(error)
            _end(current, "FAILED", delete_note)
            raise
        _end(current, "FINISHED", delete_note)


def _start(experiment: str, root: Path, spec: RunSpec) -> str:
    client, experiment_id = open_experiment(experiment, root)
    import mlflow

    mlflow.set_tracking_uri(tracking_uri(root))
    mlflow.set_experiment(experiment)
    tags, run_id = masked_tags(spec.tags), spec.run_id
    if run_id and not is_active(client, run_id):
        tags["trained_in_run"] = run_id
        run_id = ""
    if spec.model:
        tags["model"] = spec.model
        run_id = _run_of_model(client, experiment_id, spec.model)
    if not run_id:
        name = _free_name(client, experiment_id, spec.name)
        started = mlflow.start_run(run_name=name, tags=tags, nested=True, parent_run_id=spec.parent or None)
        return str(started.info.run_id)
    known = mlflow.start_run(run_id=run_id, nested=True)
    new = {key: value for key, value in tags.items() if key not in known.data.tags}
    mlflow.set_tags(new | ({"mlflow.parentRunId": spec.parent} if spec.parent else {}))
    if "error" in known.data.tags:
        mlflow.delete_tag("error")  # of the previous attempt
    return str(known.info.run_id)


def _free_name(client: Any, experiment_id: str, name: str) -> str:
    """Return a name that no run has yet: the wanted one, or that with a number."""
    # A quote would end the text of the filter, and the wildcard matches it.
    pattern = re.sub("['\"]", "_", name)
    found = client.search_runs([experiment_id], f"attributes.run_name LIKE '{pattern}%'", max_results=1000)
    taken = {run.info.run_name for run in found}
    numbered = (f"{name} ({number})" for number in range(2, len(taken) + 3))
    return next(free for free in (name, *numbered) if free not in taken)


def _run_of_model(client: Any, experiment_id: str, model: str) -> str:
    """Return the id of the newest run with a model, without trials of sweeps and searches, or an empty text.

    Runs are found by the model's digest, not by a file with the run's id beside the model: such a file would differ
    from run to run, so that DVC would treat equal models as different.
    """
    order = ["attributes.start_time DESC"]
    found = client.search_runs([experiment_id], f"tags.model = '{model}'", order_by=order)
    return next((str(run.info.run_id) for run in found if "trial" not in run.data.tags), "")


def _end(current: Run, status: str, delete_note: Callable[[], None]) -> None:
    import mlflow

    # Also after a failure, because MLflow would otherwise try to end the run when the process exits.
    try:
        with nullcontext() if current.run_id else impatient():
            mlflow.end_run(status)
        if current.run_id:
            _end_after_start(current.run_id, status)
        delete_note()
    except Exception as error:
        if current.run_id:
            warn_not_taken("the end of the run", error)


def _end_after_start(run_id: str, status: str) -> None:
    """Give a run no negative duration if the clock was set back while it was open."""
    import mlflow

    client = mlflow.MlflowClient()
    info = client.get_run(run_id).info
    if info.end_time is not None and info.end_time < info.start_time:
        client.set_terminated(run_id, status, info.start_time)


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as flat ones with dotted names; lists become text with commas.

    Example:
        >>> flattened({"loss": {"weights": {"age": 2.0}}, "widths": [8, 16]})
        {'loss.weights.age': 2.0, 'widths': '8,16'}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
    return flat


def model_tag(folder: Path) -> str:
    """Return the tag ``model`` of the runs of a saved model: the first 16 characters of its digest.

    Raises:
        IntegrityError: ``model.json`` is missing or damaged.
    """
    path = folder / "model.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["digest"])[:16]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path} is missing or damaged ({error}): run `dvc repro train`") from error
