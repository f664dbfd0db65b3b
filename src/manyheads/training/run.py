"""One training: from settings and packed samples to a model and its history."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from manyheads.config.schema import Config, TrainConfig
from manyheads.data.subsets import Subset, load_subset
from manyheads.data.tables import write_table
from manyheads.modeling import saving
from manyheads.modeling.build import averaged_over_flip, build_network, compile_model
from manyheads.modeling.inference import fold
from manyheads.modeling.objective import Objective, objective_of
from manyheads.paths import Paths
from manyheads.runtime import tensorflow
from manyheads.runtime.files import atomic_write
from manyheads.training.callbacks import Training, TrainingCallback
from manyheads.training.checkpoint import Progress, resume
from manyheads.training.fingerprint import fingerprint, precision_of
from manyheads.training.loop import fit
from manyheads.training.optimizers import optimizer_for

if TYPE_CHECKING:
    import keras

    from manyheads.modeling.multi_head import MultiHeadModel

logger = logging.getLogger(__name__)


def train(
    config: Config, project: Paths, outputs: Paths, checkpoint: Path, callbacks: Sequence[TrainingCallback] = ()
) -> dict[str, float]:
    """Train the configured model, or continue a training that was stopped.

    Args:
        config: All settings.
        project: Where the packed samples and the split lie.
        outputs: Where the model and its history go.
        checkpoint: File that holds the state between epochs; the caller holds its lock, and deletes it at the end.
        callbacks: Listeners, called in this order.

    Returns:
        ``best/val/…`` and ``last/val/…`` metrics, ``best/epoch`` and ``wall_seconds``.

    Raises:
        ManyheadsError: The data does not fit the settings, the loss is not finite, or the checkpoint is of another
            training.
    """
    start = time.monotonic()
    tensorflow.start_training_session(config.train.deterministic)
    train, validation = (
        load_subset(project, config.data.heads, config.inputs, name) for name in ("train", "validation")
    )
    objective = training_objective(config, train)
    model = compiled_model(config, objective, config.train, len(train))
    progress = resume(checkpoint, model, fingerprint(config, project))
    _log_start(model, train, validation, config.train, progress, checkpoint)
    for callback in callbacks:
        callback.on_start(Training(config, model, train, progress))

    def on_epoch(epoch: int, row: dict[str, float]) -> None:
        for callback in callbacks:
            callback.on_epoch(epoch, row)

    fit(model, train, validation, config.train, config.seed, checkpoint, progress, on_epoch)
    network = inference_network(config, objective, model)
    _write(outputs, config, network, progress)
    metrics = training_metrics(progress)
    for callback in callbacks:
        callback.on_end(network, metrics)
    logger.info(
        "best epoch %d of %d, validation score %.3f; %.0f s",
        progress.best_epoch, config.train.epochs, metrics["best/val/score"], time.monotonic() - start,
    )  # fmt: skip
    return metrics


def training_objective(config: Config, train: Subset) -> Objective:
    """Return the configured objective with the statistics of the training labels."""
    loss = config.loss
    return objective_of(config.data.heads, loss.functions, loss.weights, loss.scale, train.labels)


def compiled_model(config: Config, objective: Objective, settings: TrainConfig, samples: int) -> MultiHeadModel:
    """Return a model with its initial weights, ready to be fitted.

    Args:
        config: The seed, the encoder, the inputs and how the losses are weighted.
        objective: The heads with their losses.
        settings: How it is trained.
        samples: How many samples an epoch has; the schedule of the learning rate depends on it.
    """
    import keras

    keras.utils.set_random_seed(config.seed)
    network = build_network(config.model, objective, config.inputs, precision_of(settings))
    return compile_model(
        network,
        objective,
        optimizer_for(settings, max(1, samples // settings.batch_size)),
        weighting=config.loss.weighting,
        form=config.loss.form,
    )


def inference_network(config: Config, objective: Objective, trained: keras.Model) -> keras.Model:
    """Return the network that is saved: folded, float32, with ``train.flip_tta`` inside its graph."""
    folded = build_network(config.model, objective, config.inputs, folded=True)
    fold(trained, folded)
    return averaged_over_flip(folded, config.inputs) if config.train.flip_tta else folded


def training_metrics(progress: Progress) -> dict[str, float]:
    """Return the validation metrics of the best epoch and the last, by which runs are compared."""
    metrics: dict[str, float] = {}
    for which, row in (("best", progress.best_row), ("last", progress.history[-1])):
        metrics |= {f"{which}/{name}": value for name, value in row.items() if name.startswith("val/")}
    metrics["best/epoch"] = progress.best_epoch
    metrics["wall_seconds"] = sum(row["train/seconds"] for row in progress.history)
    return metrics


def _log_start(
    model: MultiHeadModel,
    train: Subset,
    validation: Subset,
    settings: TrainConfig,
    progress: Progress,
    checkpoint: Path,
) -> None:
    if progress.history:
        logger.info("continuing after epoch %d (%s)", len(progress.history), checkpoint)
    logger.info(
        "training %s parameters on %d samples, validated on %d, in %d epochs, %s",
        f"{model.count_params():,}", len(train), len(validation), settings.epochs, precision_of(settings),
    )  # fmt: skip


def _write(outputs: Paths, config: Config, network: keras.Model, progress: Progress) -> None:
    history = pd.DataFrame(progress.history)
    history.insert(0, "epoch", range(1, len(history) + 1))
    # Seconds differ from run to run, and DVC would take the file for changed. They are in MLflow.
    write_table(outputs.history, history.drop(columns="train/seconds"))
    card = saving.ModelCard(
        data=config.data.name, inputs=config.inputs, heads=config.data.heads, precision=precision_of(config.train)
    )
    with atomic_write(outputs.model) as folder:
        folder.mkdir()
        saving.save(folder, network, card)
