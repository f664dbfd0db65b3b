"""A training with its MLflow run, for the stage ``train`` and for the trials of sweeps and searches.

A training with the same fingerprint continues one that was stopped, in the same run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from manyheads.config.schema import Config
from manyheads.data.subsets import label_table
from manyheads.heads import Head, Metric
from manyheads.modeling import saving
from manyheads.paths import Paths
from manyheads.runtime.exhaustion import LESS_MEMORY, enough_memory
from manyheads.runtime.hardware import describe
from manyheads.tracking import git, runs
from manyheads.training.callbacks import Training, TrainingCallback
from manyheads.training.checkpoint import Row, recorded_run, training_lock
from manyheads.training.fingerprint import checkpoint_of, precision_of, split_digest
from manyheads.training.run import train

if TYPE_CHECKING:
    import keras


OF_EVERY_HEAD = ("loss", "skill", "weight")
"""Metrics of an epoch that MLflow gets of every head beside its main metric."""


class Trained(NamedTuple):
    """The result of a finished training in addition to its files.

    Attributes:
        run_id: Id of the MLflow run, or an empty text if there is no run.
        metrics: The metrics from ``training.run.train``.
    """

    run_id: str
    metrics: dict[str, float]


def train_and_record(
    config: Config,
    project: Paths,
    destination: Paths,
    spec: runs.RunSpec = runs.RunSpec(),  # noqa: B008 - immutable
    callbacks: Sequence[TrainingCallback] = (),
) -> Trained:
    """Train the configured model, or continue a training that was stopped, in an MLflow run.

    Args:
        config: All settings.
        project: Paths of the packed samples and the split.
        destination: Paths of the model and its history.
        spec: Name, tags and parent of the run.
        callbacks: Listeners in addition to the run.

    Raises:
        MachineError: Another process runs the same training, or the memory is too small.
        ManyheadsError: See ``training.run.train``.
    """
    checkpoint = checkpoint_of(config, project)
    with training_lock(checkpoint):
        spec = run_spec(spec, config, project)._replace(run_id=recorded_run(checkpoint) or spec.run_id)
        with runs.run(config.tracking.experiment, project.root, spec) as run:
            for callback in callbacks:
                callback.on_record(run.run_id)
            listeners = [RunLogger(run, project, destination), *callbacks]
            with enough_memory(f"{LESS_MEMORY}; with more memory, the same command continues after the last epoch"):
                metrics = train(config, project, destination, checkpoint, listeners)
            run_id = run.run_id
        checkpoint.unlink(missing_ok=True)
    return Trained(run_id, metrics)


class RunLogger(TrainingCallback):
    """Writes a training into an MLflow run, epoch by epoch."""

    def __init__(self, run: runs.Run, project: Paths, destination: Paths) -> None:
        self.run = run
        self.project = project
        self.destination = destination

    def on_start(self, training: Training) -> None:
        """Log the settings, the data, and earlier epochs that are missing in the run."""
        config, network, train, progress = training
        progress.run_id = self.run.run_id
        derived = {"parameters": network.count_params(), "precision": precision_of(config.train)}
        self.run.params(config.model_dump() | derived)
        self.run.settings(config.model_dump(mode="json"))
        self.run.dataset(
            label_table(config.data.heads, train), f"{config.data.title}-train", config.data.path, "training"
        )
        self.config, self.progress = config, progress
        self.run.missing_epochs(epoch_metrics(progress.history, config.data.heads))

    def on_epoch(self, epoch: int, row: Row) -> None:
        """Log the metrics of an epoch."""
        del row  # the history has it, with the epochs before it
        self.run.metrics(epoch_metrics(self.progress.history, self.config.data.heads)[-1], step=epoch)

    def on_end(self, network: keras.Model, metrics: dict[str, float]) -> None:
        """Log the result and the model."""
        self.run.tags({"machine": describe()})
        _record_results(self.run, self.project, self.destination, metrics, network, self.config)
        self.run.describe()


def run_spec(spec: runs.RunSpec, config: Config, project: Paths) -> runs.RunSpec:
    """Return a run spec with the name and the tags of every training added."""
    tags = {
        **git.provenance(project.root),
        "loss": config.loss.name,
        "encoder": config.model.encoder,
        "data": config.data.title,
        "split": split_digest(project),
        "main_metrics": json.dumps({name: each.model_dump() for name, each in main_metrics(config).items()}),
    }
    return spec._replace(name=spec.name or config.data.title, tags=tags | dict(spec.tags))


def main_metrics(config: Config) -> dict[str, Metric]:
    """Return each head's main metric, which comparisons of runs show."""
    return {name: head.metric(head.main_metric) for name, head in config.data.heads.items()}


def record_again(
    config: Config, project: Paths, destination: Paths, spec: runs.RunSpec, metrics: Mapping[str, float]
) -> str:
    """Log a finished training from its files, if MLflow was not reachable during the training.

    Args:
        config: All settings.
        project: Paths of the packed samples and the split.
        destination: Paths of the model and its history.
        spec: Name, tags and parent of the run.
        metrics: The metrics of the training.

    Returns:
        The id of the run, or an empty text if the store is still not reachable.
    """
    history = pd.read_csv(destination.history).drop(columns="epoch")
    rows = [dict(zip(history.columns.astype(str), values, strict=True)) for values in history.to_numpy().tolist()]
    with runs.run(config.tracking.experiment, project.root, run_spec(spec, config, project)) as run:
        run.params(config.model_dump())
        run.settings(config.model_dump(mode="json"))
        run.missing_epochs(epoch_metrics(rows, config.data.heads))
        network = saving.load(destination.model, config.extensions).keras_model
        _record_results(run, project, destination, metrics, network, config)
        run.describe()
    return run.run_id


def epoch_metrics(history: Sequence[Row], heads: Mapping[str, Head]) -> list[Row]:
    """Return the metrics of each epoch that MLflow gets.

    MLflow shows every metric of a run beside the others, so it gets those that people compare: the score, losses, and
    each head's main metric and skill score. ``reports/history.csv`` has all. The best score so far comes first: a page
    of MLflow opens with the first metric, and no loss weight changes this one.

    Args:
        history: All metrics of each epoch, the first epoch first.
        heads: The heads by name.
    """
    wanted = {
        f"{subset}/{name}/{metric}"
        for subset in ("train", "val")
        for name, head in heads.items()
        for metric in (*OF_EVERY_HEAD, head.main_metric)
    }
    rows, best = [], -math.inf
    for row in history:
        best = max(best, row["val/score"])
        chosen = {name: value for name, value in row.items() if name in wanted or name.count("/") == 1}
        rows.append({"best/val/score": best, "val/score": row["val/score"]} | chosen)
    return rows


def result_metrics(metrics: Mapping[str, float], heads: Mapping[str, Head]) -> dict[str, float]:
    """Return the metrics of a finished training that MLflow gets in addition to those of the epochs.

    Args:
        metrics: Metrics from ``training.run.train``.
        heads: The heads by name.
    """
    wanted = {
        f"best/val/{name}/{metric}" for name, head in heads.items() for metric in (*head.tracked_metrics, "skill")
    }
    return {
        name: value for name, value in metrics.items()
        if name in wanted or name in ("best/epoch", "wall_seconds") or name.startswith("val_baseline/")
    }  # fmt: skip


def _record_results(
    run: runs.Run,
    project: Paths,
    destination: Paths,
    metrics: Mapping[str, float],
    network: keras.Model,
    config: Config,
) -> None:
    run.model(destination.model, network, config.inputs, config.data.heads)
    run.results(result_metrics(metrics, config.data.heads))
    run.tags({"model": runs.model_tag(destination.model)})
    run.files(destination.history)
    run.files(project.split_counts)
