"""A training with its MLflow run: what the stage ``train`` does once, and a sweep or a search many times.

The same settings on the same data with the same code continue where they were stopped, in the same run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from manyheads.config.schema import Config
from manyheads.data.subsets import label_table
from manyheads.heads import Metric
from manyheads.paths import Paths
from manyheads.runtime.hardware import describe
from manyheads.tracking import git, runs
from manyheads.training.callbacks import Training, TrainingCallback
from manyheads.training.checkpoint import Row, recorded_run, training_lock
from manyheads.training.fingerprint import checkpoint_of, precision_of, split_digest
from manyheads.training.run import train

if TYPE_CHECKING:
    import keras


class Trained(NamedTuple):
    """What a finished training leaves, beside its files.

    Attributes:
        run_id: Its MLflow run, or an empty text if there is no record.
        metrics: What ``training.run.train`` returned.
    """

    run_id: str
    metrics: dict[str, float]


def train_and_record(
    config: Config,
    project: Paths,
    outputs: Paths,
    spec: runs.RunSpec = runs.RunSpec(),  # noqa: B008 - immutable
    callbacks: Sequence[TrainingCallback] = (),
) -> Trained:
    """Train the configured model, or continue a training that was stopped, in an MLflow run.

    Args:
        config: All settings.
        project: Where the packed samples and the split lie.
        outputs: Where the model and its history go.
        spec: Name, tags and parent of the run.
        callbacks: Listeners beside the run.

    Raises:
        MachineError: Another process trains the same.
        ManyheadsError: See ``training.run.train``.
    """
    checkpoint = checkpoint_of(config, project)
    with training_lock(checkpoint):
        spec = run_spec(spec, config, project)._replace(run_id=recorded_run(checkpoint) or spec.run_id)
        with runs.run(config.tracking.experiment, project.root, spec) as run:
            for callback in callbacks:
                callback.on_record(run.run_id)
            metrics = train(config, project, outputs, checkpoint, [RunLogger(run, project, outputs), *callbacks])
            run_id = run.run_id
        checkpoint.unlink(missing_ok=True)
    return Trained(run_id, metrics)


class RunLogger(TrainingCallback):
    """Writes a training into an MLflow run, epoch by epoch."""

    def __init__(self, run: runs.Run, project: Paths, outputs: Paths) -> None:
        self.run = run
        self.project = project
        self.outputs = outputs

    def on_start(self, training: Training) -> None:
        """Log the settings, the data, and epochs of an earlier process that the store did not get."""
        config, model, train, progress = training
        progress.run_id = self.run.run_id
        derived = {"parameters": model.count_params(), "precision": precision_of(config.train)}
        self.run.params(config.model_dump() | derived)
        self.run.dataset(
            label_table(config.data.heads, train), f"{config.data.name}-train", config.data.path, "training"
        )
        self.run.missing_epochs(progress.history)
        self.heads = config.data.heads

    def on_epoch(self, epoch: int, row: Row) -> None:
        """Log the metrics of an epoch."""
        self.run.metrics(row, step=epoch)

    def on_end(self, network: keras.Model, metrics: dict[str, float]) -> None:
        """Log the result and the model."""
        self.run.tags({"machine": describe()})
        _record_results(self.run, self.project, self.outputs, metrics)
        self.run.model(network, self.heads)


def run_spec(spec: runs.RunSpec, config: Config, project: Paths) -> runs.RunSpec:
    """Return a run's spec with the name and the tags that every training has."""
    tags = {
        **git.provenance(project.root),
        "loss": config.loss.name,
        "encoder": config.model.encoder,
        "data": config.data.name,
        "split": split_digest(project),
        "main_metrics": json.dumps({name: each.model_dump() for name, each in main_metrics(config).items()}),
    }
    name = spec.name or f"{config.data.name}-{config.model.encoder}-{config.loss.name}"
    return spec._replace(name=name, tags=tags | dict(spec.tags))


def main_metrics(config: Config) -> dict[str, Metric]:
    """Return each head's main metric: what a comparison of runs shows of it, and how."""
    return {name: head.metric(head.main_metric) for name, head in config.data.heads.items()}


def record_again(
    config: Config, project: Paths, outputs: Paths, spec: runs.RunSpec, metrics: Mapping[str, float]
) -> str:
    """Give MLflow a finished training that it did not take at the time, from its files.

    Returns:
        The id of the run, or an empty text if the store cannot be reached now either.
    """
    history = pd.read_csv(outputs.history).drop(columns="epoch")
    rows = [dict(zip(history.columns.astype(str), values, strict=True)) for values in history.to_numpy().tolist()]
    with runs.run(config.tracking.experiment, project.root, run_spec(spec, config, project)) as run:
        run.params(config.model_dump())
        run.missing_epochs(rows)
        _record_results(run, project, outputs, metrics)
        run.files(outputs.model, "models")
    return run.run_id


def _record_results(run: runs.Run, project: Paths, outputs: Paths, metrics: Mapping[str, float]) -> None:
    run.metrics(metrics)
    run.tags({"model": runs.model_tag(outputs.model)})
    run.files(outputs.history)
    run.files(project.split_counts)
