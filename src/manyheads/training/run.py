"""A training from settings and packed samples to a model and its history."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from manyheads.config.schema import Config, TrainConfig
from manyheads.data.subsets import Subset, load_subset, property_ranges
from manyheads.data.tables import write_table
from manyheads.heads import baseline_metrics
from manyheads.modeling import novelty, saving
from manyheads.modeling.build import averaged_over_flip, build_network
from manyheads.modeling.inference import Predictor, fold
from manyheads.modeling.novelty import Directions, Reference
from manyheads.modeling.objective import Objective, objective_of
from manyheads.paths import Paths
from manyheads.runtime import tensorflow
from manyheads.runtime.files import atomic_write
from manyheads.training.callbacks import Training, TrainingCallback
from manyheads.training.checkpoint import Progress, resume
from manyheads.training.compilation import compiled_model
from manyheads.training.features import computed_once
from manyheads.training.fingerprint import fingerprint, precision_of
from manyheads.training.heads_first import copy_weights, heads_checkpoint, train_heads
from manyheads.training.loop import fit
from manyheads.training.overfitting import not_by_heart, one_batch, require_by_heart, turn_off_dropout

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)


def train(
    config: Config, project: Paths, destination: Paths, checkpoint: Path, callbacks: Sequence[TrainingCallback] = ()
) -> dict[str, float]:
    """Train the configured model, or continue a training that was stopped.

    Args:
        config: All settings.
        project: Paths of the packed samples and the split.
        destination: Paths of the model and its history.
        checkpoint: Path of the checkpoint; the caller holds its lock and deletes it at the end.
        callbacks: Listeners, called in this order.

    Returns:
        ``best/val/…`` and ``last/val/…`` metrics, ``best/epoch``, ``wall_seconds``, and the baseline of each head's
        main metric as ``val_baseline/…``.

    Raises:
        ManyheadsError: The data does not fit the settings, the loss is not finite, or the checkpoint belongs to another
            training.
    """
    start = time.monotonic()
    tensorflow.start_training_session(config.train.deterministic)
    train = load_subset(project, config.data.heads, config.inputs, "train")
    validation = load_subset(project, config.data.heads, config.inputs, "validation")
    ranges = property_ranges(project, config.inputs, train)
    objective = training_objective(config, train)
    if config.train.overfit:
        validation, train = one_batch(train, config.data.heads, config.train.batch_size, config.seed)
    learned, judged = computed_once(config.model, config.inputs, precision_of(config.train), train, validation)
    network, model = compiled_model(
        config.model, config.inputs, objective, config.train, config.seed, learned,
        weighting=config.loss.weighting, form=config.loss.form,
    )  # fmt: skip
    if config.train.overfit:
        turn_off_dropout(network)
    if config.train.heads_first and not checkpoint.exists():
        copy_weights(train_heads(config, project, objective, train, validation, checkpoint), network)
    progress = resume(checkpoint, model, fingerprint(config, project))
    _log_start(network, train, validation, config.train, progress, checkpoint)
    for callback in callbacks:
        callback.on_start(Training(config, network, train, progress))

    def on_epoch(epoch: int, row: dict[str, float]) -> None:
        heads_checkpoint(checkpoint).unlink(missing_ok=True)
        for callback in callbacks:
            callback.on_epoch(epoch, row)

    def is_enough(row: Mapping[str, float]) -> bool:
        return config.train.overfit and not not_by_heart(config.data.heads, validation, row)

    fit(model, learned, judged, config.train, config.seed, checkpoint, progress, on_epoch, is_enough)
    if config.train.overfit:
        require_by_heart(config.data.heads, validation, progress.history)
    network = inference_network(config, objective, network)
    limit, directions = _directions(config, network, train, validation)
    _write(destination, config, network, progress, Reference(ranges=ranges, distance_limit=limit), directions)
    metrics = training_metrics(progress) | _baselines(config, train, validation)
    for callback in callbacks:
        callback.on_end(network, metrics)
    logger.info(
        "best epoch %d of %d, score %.3f on %d validation samples; %.0f s",
        progress.best_epoch, config.train.epochs, metrics["best/val/score"], len(validation), time.monotonic() - start,
    )  # fmt: skip
    return metrics


def training_objective(config: Config, train: Subset) -> Objective:
    """Return the configured objective with the statistics of the training labels."""
    loss = config.loss
    return objective_of(config.data.heads, loss.functions, loss.weights, loss.scale, train.labels)


def inference_network(config: Config, objective: Objective, trained: keras.Model) -> keras.Model:
    """Return the network to save: folded, float32, and with ``train.flip_tta`` in its graph."""
    folded = build_network(config.model, objective, config.inputs, folded=True)
    fold(trained, folded)
    return averaged_over_flip(folded, config.inputs) if config.train.flip_tta else folded


def training_metrics(progress: Progress) -> dict[str, float]:
    """Return the validation metrics of the best and the last epoch, which comparisons of runs use."""
    metrics: dict[str, float] = {}
    for which, row in (("best", progress.best_row), ("last", progress.history[-1])):
        metrics |= {f"{which}/{name}": value for name, value in row.items() if name.startswith("val/")}
    metrics["best/epoch"] = progress.best_epoch
    metrics["wall_seconds"] = sum(row["train/seconds"] for row in progress.history)
    return metrics


def _baselines(config: Config, train: Subset, validation: Subset) -> dict[str, float]:
    baselines = baseline_metrics(config.data.heads, train.labels, validation.labels)
    main = {name: head.main_metric for name, head in config.data.heads.items()}
    return {f"val_baseline/{name}/{metric}": baselines[name][metric] for name, metric in main.items()}


def _log_start(
    network: keras.Model,
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
        f"{network.count_params():,}", len(train), len(validation), settings.epochs, precision_of(settings),
    )  # fmt: skip


def _directions(
    config: Config, network: keras.Model, train: Subset, validation: Subset
) -> tuple[float | None, Directions | None]:
    """Return the largest usual distance and the directions of the features; None if the network does not mark them."""
    predictor = Predictor(network, config.data.heads, precision_of(config.train), config.inputs)
    _, features = predictor.with_features(train.inputs, novelty.sampled(train.rows, config.seed))
    if not features.shape[1] or len(features) < 2:
        return None, None
    directions = novelty.directions_of(features)
    _, features = predictor.with_features(validation.inputs, novelty.sampled(validation.rows, config.seed))
    return novelty.distance_limit(novelty.distances(features, directions)), directions


def _write(
    destination: Paths,
    config: Config,
    network: keras.Model,
    progress: Progress,
    reference: Reference,
    directions: Directions | None,
) -> None:
    history = pd.DataFrame(progress.history)
    history.insert(0, "epoch", range(1, len(history) + 1))
    # Seconds differ between equal trainings, which would change the file for DVC. MLflow has them.
    write_table(destination.history, history.drop(columns="train/seconds"))
    card = saving.ModelCard(
        data=config.data.name,
        inputs=config.inputs,
        columns=config.data.columns,
        heads=config.data.heads,
        precision=precision_of(config.train),
        reference=reference,
    )
    with atomic_write(destination.model) as folder:
        folder.mkdir()
        saving.save(folder, network, card, directions)
