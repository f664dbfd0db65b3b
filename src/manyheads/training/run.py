"""One training: from a configuration to a model, its history and its MLflow run.

The stage ``train`` does one, a sweep and a search do many. The same configuration on the same data with the same code
goes on where it was stopped.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from manyheads.config.schema import Config
from manyheads.data.subsets import Subset, label_table, load_subset
from manyheads.data.tables import write_table
from manyheads.heads import Head, LabelStatistics, Metric
from manyheads.modeling import build, inference, saving
from manyheads.modeling.build import build_network
from manyheads.paths import Paths
from manyheads.runtime import tensorflow
from manyheads.runtime.files import atomic_write
from manyheads.runtime.hardware import describe
from manyheads.tracking import git, runs
from manyheads.training import checkpoint, loop, optimizers
from manyheads.training.fingerprint import checkpoint_folder, digest, fingerprint, precision_of, split_digest

if TYPE_CHECKING:
    import keras

    from manyheads.modeling.objective import MultiHeadModel
logger = logging.getLogger(__name__)


class Trained(NamedTuple):
    """What a finished training leaves, beside its files.

    Attributes:
        run_id: Its MLflow run, or an empty text if there is no record.
        figures: ``best/…`` and ``last/…`` validation figures, ``best/epoch`` and ``wall_seconds``.
    """

    run_id: str
    figures: dict[str, float]


def train(
    config: Config,
    inputs: Paths,
    outputs: Paths,
    place: runs.RunSpec = runs.RunSpec(),  # noqa: B008 - immutable
    on_epoch: Callable[[int, checkpoint.Row], None] = lambda epoch, row: None,  # noqa: ARG005
    on_start: Callable[[str], None] = lambda run_id: None,  # noqa: ARG005
) -> Trained:
    """Train the configured model, or go on with a training that was stopped.

    Args:
        config: The whole configuration.
        inputs: Where the packed samples and the split lie.
        outputs: Where the model and its history go.
        place: Name, tags and parent of the MLflow run.
        on_epoch: Called after each epoch with its number and figures; what it raises ends the training.
        on_start: Called with the id of the MLflow run once it is open.
    """
    tensorflow.require_tensorflow()
    subset, validation = load_subset(config, inputs, "train"), load_subset(config, inputs, "validation")
    state = checkpoint_folder(inputs) / f"{digest(config, inputs)}.npz"
    with checkpoint.training_lock(state):
        place = _described(place, config, inputs)._replace(run_id=checkpoint.recorded_run(state) or place.run_id)
        with runs.run(config.tracking, inputs.root, place) as record:
            on_start(record.run_id)
            figures = _train(config, inputs, outputs, subset, validation, state, record, on_epoch)
            run_id = record.run_id
        state.unlink(missing_ok=True)
    return Trained(run_id, figures)


def _described(place: runs.RunSpec, config: Config, inputs: Paths) -> runs.RunSpec:
    tags = {
        **git.provenance(inputs.root),
        "loss": config.loss.name,
        "encoder": config.model.encoder,
        "data": config.data.name,
        "split": split_digest(inputs),
        "main_metrics": json.dumps({name: each.model_dump() for name, each in main_metrics(config).items()}),
    }
    name = place.name or f"{config.data.name}-{config.model.encoder}-{config.loss.name}"
    return place._replace(name=name, tags=tags | dict(place.tags))


def main_metrics(config: Config) -> dict[str, Metric]:
    """Return each head's main metric: what a comparison of runs shows of it, and how."""
    return {name: head.metric(head.main_metric) for name, head in config.data.heads.items()}


def record_in_mlflow_again(config: Config, inputs: Paths, outputs: Paths, place: runs.RunSpec, trained: Trained) -> str:
    """Give MLflow a finished training that it did not take at the time, from its files.

    Returns:
        The id of the run, or an empty text if the store cannot be reached now either.
    """
    history = pd.read_csv(outputs.history).drop(columns="epoch")
    rows = [dict(zip(history.columns.astype(str), values, strict=True)) for values in history.to_numpy().tolist()]
    with runs.run(config.tracking, inputs.root, _described(place, config, inputs)) as record:
        record.params(config.model_dump())
        record.missing_epochs(rows)
        _record_results(record, inputs, outputs, trained.figures)
        record.files(outputs.model, "models")
    return record.run_id


def _record_results(record: runs.Run, inputs: Paths, outputs: Paths, figures: Mapping[str, float]) -> None:
    record.metrics(figures)
    record.tags({"model": saving.model_tag(outputs.model)})
    record.files(outputs.history)
    record.files(inputs.split_counts)


def _train(
    config: Config,
    inputs: Paths,
    outputs: Paths,
    train: Subset,
    validation: Subset,
    state: Path,
    record: runs.Run,
    on_epoch: Callable[[int, checkpoint.Row], None],
) -> dict[str, float]:
    import keras
    import tensorflow as tf

    keras.backend.clear_session()  # of an earlier training in this process
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    heads, settings = config.data.heads, config.train
    network = compiled_model(config, train)
    progress = checkpoint.resume(state, network, fingerprint(config, inputs))
    if state.exists():
        logger.info("going on after epoch %d (%s)", len(progress.history), state)
    logger.info(
        "training %s parameters on %d samples, judged on %d, in %d epochs, %s",
        f"{network.count_params():,}", len(train), len(validation), settings.epochs, precision_of(settings),
    )  # fmt: skip
    start = time.monotonic()
    progress.run_id = record.run_id
    settled = {"parameters": network.count_params(), "precision": precision_of(settings)}
    record.params(config.model_dump() | settled)
    record.dataset(label_table(train), f"{config.data.name}-train", config.data.path, "training")
    record.missing_epochs(progress.history)

    def after_epoch(epoch: int, row: checkpoint.Row) -> None:
        record.metrics(row, step=epoch)
        on_epoch(epoch, row)

    loop.fit(network, heads, train, validation, settings, config.seed, state, progress, after_epoch)
    figures = summary(progress)
    folded = _for_inference(config, train, network)
    _write(outputs, config, folded, progress)
    record.tags({"machine": describe()})
    _record_results(record, inputs, outputs, figures)
    record.model(folded, heads)
    logger.info(
        "best epoch %d of %d, validation score %.3f; %.0f s",
        progress.best_epoch, settings.epochs, figures["best/val/score"], time.monotonic() - start,
    )  # fmt: skip
    return figures


def summary(progress: checkpoint.Progress) -> dict[str, float]:
    """Return the validation figures of the best epoch and the last, to compare runs by."""
    figures: dict[str, float] = {}
    rows = {"best": progress.history[progress.best_epoch - 1], "last": progress.history[-1]}
    for which, row in rows.items():
        figures |= {f"{which}/{name}": value for name, value in row.items() if name.startswith("val/")}
    figures["best/epoch"] = progress.best_epoch
    figures["wall_seconds"] = sum(row["train/seconds"] for row in progress.history)
    return figures


def compiled_model(config: Config, train: Subset) -> MultiHeadModel:
    """Return the configured model with its initial weights, ready to be fitted to the training subset."""
    import keras

    keras.utils.set_random_seed(config.seed)
    heads, loss, settings = config.data.heads, config.loss, config.train
    statistics = _label_statistics(config, train)
    network = build_network(config.model, heads, loss.functions, statistics, config.inputs, precision_of(settings))
    optimizer = optimizers.optimizer_for(settings, max(1, len(train) // settings.batch_size))
    return build.compile_heads(
        network,
        heads,
        loss.functions,
        loss.weights,
        statistics,
        optimizer,
        loss.weighting,
        ema_decay=settings.ema_decay,
        incomplete=incomplete(heads, train),
        form=loss.form,
    )


def incomplete(heads: Mapping[str, Head], subset: Subset) -> list[str]:
    """Return the heads that miss labels in a subset."""
    return [name for name, head in heads.items() if not head.present(subset.labels[name]).all()]


def _for_inference(config: Config, train: Subset, trained: keras.Model) -> keras.Model:
    folded = build_network(
        config.model,
        config.data.heads,
        config.loss.functions,
        _label_statistics(config, train),
        config.inputs,
        folded=True,
    )
    inference.fold(trained, folded)
    return build.averaged_over_flip(folded, config.inputs) if config.train.flip_tta else folded


def _label_statistics(config: Config, train: Subset) -> dict[str, LabelStatistics]:
    return {name: head.statistics(config.loss.scale, train.labels[name]) for name, head in config.data.heads.items()}


def _write(outputs: Paths, config: Config, model: keras.Model, progress: checkpoint.Progress) -> None:
    history = pd.DataFrame(progress.history)
    history.insert(0, "epoch", range(1, len(history) + 1))
    # Seconds differ from run to run; DVC would take the file for changed. They are in MLflow.
    write_table(outputs.history, history.drop(columns="train/seconds"))
    card = saving.ModelCard(
        data=config.data.name,
        inputs=config.inputs,
        heads=config.data.heads,
        precision=precision_of(config.train),
    )
    with atomic_write(outputs.model) as folder:
        folder.mkdir()
        saving.save(folder, model, card)
