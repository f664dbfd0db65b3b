"""The epochs of a training, with a checkpoint after each epoch and a score that does not depend on loss weights.

A checkpoint has the weights, the optimizer, random states, the history and the best weights so far, and is written
atomically. The order of the samples and their augmentation depend only on seed and epoch. The same command therefore
continues a stopped training with the same result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from manyheads.config.schema import TrainConfig
from manyheads.data.subsets import Subset
from manyheads.errors import ManyheadsError
from manyheads.heads import baseline_metrics, skill_scores
from manyheads.modeling.inference import outputs_of_head, traced
from manyheads.runtime import signals
from manyheads.training.batches import Feed
from manyheads.training.checkpoint import Progress, Row, save_checkpoint
from manyheads.training.display import EpochDisplay

if TYPE_CHECKING:
    import tensorflow as tf

    from manyheads.modeling.multi_head import MultiHeadModel


def fit(
    model: MultiHeadModel,
    train: Subset,
    validation: Subset,
    settings: TrainConfig,
    seed: int,
    checkpoint: Path,
    progress: Progress,
    on_epoch: Callable[[int, Row], None] = lambda epoch, row: None,  # noqa: ARG005 - called by position
    is_enough: Callable[[Row], bool] = lambda row: False,  # noqa: ARG005 - called by position
) -> Progress:
    """Train a compiled model and leave it with the weights of its best epoch.

    Args:
        model: From ``compile_model``.
        train: The training subset.
        validation: The validation subset, whose score selects the best epoch.
        settings: The settings of the training.
        seed: Seed of order and augmentation.
        checkpoint: Path of the checkpoint.
        progress: The finished epochs, from ``resume``.
        on_epoch: Called after each epoch and its checkpoint with the epoch, counted from 1, and its metrics. Their
            names are such as ``train/loss`` and ``val/<head>/<metric>``; ``val/score`` selects the best epoch. An
            exception ends the training.
        is_enough: Whether the training ends after an epoch with these metrics, before its last epoch.

    Returns:
        The progress with all epochs of the training.

    Raises:
        ManyheadsError: The loss is not finite.
        MachineError: The checkpoint cannot be written.
    """
    heads = model.heads
    feed = Feed(
        train,
        heads,
        settings.batch_size,
        seed,
        training=True,
        augment=settings.augment,
        mixup=settings.mixup,
        cutmix=settings.cutmix,
    )
    evaluated = Feed(validation, heads, max(settings.batch_size, 128), seed, training=False, augment=0.0)
    baselines = {
        name: metrics[heads[name].main_metric]
        for name, metrics in baseline_metrics(heads, train.labels, validation.labels).items()
    }
    predict = traced(model)
    with EpochDisplay(settings.epochs, feed.steps, done=len(progress.history)) as display:
        for epoch in range(len(progress.history) + 1, settings.epochs + 1):
            start = time.monotonic()
            fitted = model.fit(feed.epoch(epoch), epochs=1, verbose=0, shuffle=False, callbacks=[display.callback()])
            row = _training_metrics({name: float(values[-1]) for name, values in fitted.history.items()}, model)
            _raise_if_diverged(row, epoch)
            row |= _validation_metrics(model, predict, validation, evaluated.epoch(epoch), baselines)
            best = not progress.best_epoch or row["val/score"] > progress.best_row["val/score"]
            if best:
                progress.best_epoch = epoch
                progress.best_weights = [variable.numpy() for variable in model.variables]
            row |= _learned_weights(model)
            row["train/learning_rate"] = float(model.optimizer.learning_rate)
            row["train/seconds"] = round(time.monotonic() - start, 3)
            progress.history.append(row)
            save_checkpoint(checkpoint, model, progress)
            display.finish_epoch(epoch, row, heads, best)
            on_epoch(epoch, row)
            signals.raise_if_interrupted()
            if is_enough(row):
                break
    for variable, value in zip(model.variables, progress.best_weights, strict=True):
        variable.assign(value)
    return progress


def _training_metrics(logs: Mapping[str, float], model: MultiHeadModel) -> Row:
    """Return Keras's logs with names such as ``train/age/mae``; losses of single heads are without weights."""
    row = {"train/loss": float(logs["loss"])}
    for name, metrics in model.training_metrics.items():
        # A prefix is not enough to select keys, because the name of another head may start with it.
        for key in (model.loss_trackers[name].name, *(metric.name for metric in metrics)):
            row[f"train/{name}/{key.removeprefix(f'{name}_')}"] = float(logs[key])
    return row


def _validation_metrics(
    model: MultiHeadModel,
    predict: Callable[[dict[str, Any]], dict[str, tf.Tensor]],
    subset: Subset,
    batches: tf.data.Dataset,
    baselines: Mapping[str, float],
) -> Row:
    """Return the losses, the metrics of each head, the skill scores and their sum."""
    heads = model.heads
    predicted = [predict(inputs) for inputs, _ in batches]
    outputs = {name: np.concatenate([each[name] for each in predicted]) for name in predicted[0]}
    targets = {name: head.targets(subset.labels[name]) for name, head in heads.items()}
    losses = model.losses_of(targets, outputs)
    row = {"val/loss": losses["loss"]}
    main: dict[str, float] = {}
    for name, head in heads.items():
        row[f"val/{name}/loss"] = losses[name]
        metrics = head.evaluate(subset.labels[name], outputs_of_head(head, outputs))
        row |= {f"val/{name}/{metric}": value for metric, value in metrics.items()}
        main[name] = metrics[head.main_metric]
    skills = skill_scores(heads, main, baselines)
    row |= {f"val/{name}/skill": skill for name, skill in skills.items()}
    row["val/score"] = sum(skills.values())
    return row


def _learned_weights(model: MultiHeadModel) -> Row:
    row: Row = {}
    for name, log_variance in model.log_variances.items():
        row[f"train/{name}/log_variance"] = float(log_variance.numpy())
        row[f"train/{name}/weight"] = math.exp(-row[f"train/{name}/log_variance"])
    return row


def _raise_if_diverged(row: Row, epoch: int) -> None:
    bad = [name for name, value in row.items() if not math.isfinite(value)]
    if bad:
        raise ManyheadsError(
            f"training diverged in epoch {epoch}: {', '.join(sorted(bad))} is not finite; lower train.learning_rate "
            "or the weight of that head. The epochs before it are kept."
        )
