"""The epochs of a training: resumable, and scored by metrics that no loss weight touches.

After each epoch the whole state (weights, optimizer, random seeds, history, the best weights so far) is written
atomically to one file. The order of the samples and their augmentation depend on seed and epoch alone. So the same
command continues where it was stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from manyheads.config.schema import TrainConfig
from manyheads.data.subsets import Subset
from manyheads.errors import ManyheadsError
from manyheads.heads import baseline_metrics, skill_scores
from manyheads.modeling.inference import outputs_of_head
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
) -> Progress:
    """Train a compiled model and leave it with the weights of its best epoch.

    Args:
        model: From ``compile_model``.
        train: Samples to learn from.
        validation: Samples that choose the epoch.
        settings: Epochs, batch size, augmentation.
        seed: Seed of order and augmentation.
        checkpoint: File that holds the state between epochs.
        progress: The start: fresh, or what ``resume`` returned.
        on_epoch: Called after each epoch with its number, counted from 1, and its metrics. Their names are
            ``train/loss``, ``val/<head>/<metric>`` and so on; ``val/score`` chooses the epoch. It may raise, which
            stops the training after that epoch is saved.

    Returns:
        The history with all epochs.

    Raises:
        ManyheadsError: The loss is not finite.
        MachineError: The checkpoint cannot be written.
    """
    heads = model.heads
    feed = Feed(train, heads, settings.batch_size, seed, training=True, augment=settings.augment)
    evaluated = Feed(validation, heads, max(settings.batch_size, 128), seed, training=False, augment=0.0)
    baselines = {
        name: metrics[heads[name].main_metric]
        for name, metrics in baseline_metrics(heads, train.labels, validation.labels).items()
    }
    with EpochDisplay(settings.epochs, feed.steps, done=len(progress.history)) as display:
        for epoch in range(len(progress.history) + 1, settings.epochs + 1):
            start = time.monotonic()
            fitted = model.fit(feed.epoch(epoch), epochs=1, verbose=0, shuffle=False, callbacks=[display.callback()])
            row = _training_metrics({name: float(values[-1]) for name, values in fitted.history.items()}, model)
            _raise_if_diverged(row, epoch)
            row |= _validation_metrics(model, validation, evaluated.epoch(epoch), baselines)
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
    for variable, value in zip(model.variables, progress.best_weights, strict=True):
        variable.assign(value)
    return progress


def _training_metrics(logs: Mapping[str, float], model: MultiHeadModel) -> Row:
    """Rename Keras's ``age_mae`` to ``train/age/mae``; the losses of single heads are not weighted."""
    row = {"train/loss": float(logs["loss"])}
    for name, metrics in model.training_metrics.items():
        # Not every key that starts with the head's name: another head's name may start alike.
        for key in (model.loss_trackers[name].name, *(metric.name for metric in metrics)):
            row[f"train/{name}/{key.removeprefix(f'{name}_')}"] = float(logs[key])
    return row


def _validation_metrics(
    model: MultiHeadModel, subset: Subset, batches: tf.data.Dataset, baselines: Mapping[str, float]
) -> Row:
    """Return the losses, every metric that evaluate will give, the skill scores and their sum."""
    heads = model.heads
    outputs = model.predict(batches, verbose=0)
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
