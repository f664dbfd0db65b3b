"""Fitting a model epoch by epoch: resumable, and judged by a score that no loss weight touches.

After each epoch the whole state (weights, optimiser, random seeds, history, the best weights so far) is written aside
and renamed, in one file whose name is a digest of everything that shapes the result. The order of the samples and
their augmentation depend on seed and epoch training_lock. So the same command goes on where it was stopped.
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
from manyheads.heads import Head, baseline_metrics, skill_scores
from manyheads.modeling.inference import outputs_of_head
from manyheads.runtime import signals
from manyheads.training.batches import Feed
from manyheads.training.checkpoint import Progress, Row, save_checkpoint
from manyheads.training.display import EpochDisplay

if TYPE_CHECKING:
    import tensorflow as tf

    from manyheads.modeling.objective import MultiHeadModel


def fit(
    model: MultiHeadModel,
    heads: Mapping[str, Head],
    train: Subset,
    validation: Subset,
    config: TrainConfig,
    seed: int,
    state: Path,
    progress: Progress,
    on_epoch: Callable[[int, Row], None] = lambda epoch, row: None,  # noqa: ARG005 - called by position
) -> Progress:
    """Train a compiled model and leave it with the weights of its best epoch.

    Args:
        model: From ``model.compile_heads``.
        heads: The heads by name.
        train: Samples to learn from.
        validation: Samples that choose the epoch.
        config: Epochs, batch size, augmentation.
        seed: Seed of order and augmentation.
        state: File that holds the state between epochs.
        progress: Where to start: fresh, or what ``resume`` returned.
        on_epoch: Called after each epoch with its number, counted from 1, and its figures. Their names are
            ``train/loss``, ``val/<head>/<metric>`` and so on; ``val/score`` chooses the epoch. It may raise, to stop
            the training there; the epoch's state is saved by then.

    Returns:
        The history with all epochs.

    Raises:
        ManyheadsError: The loss is not finite.
        MachineError: The state cannot be written.
    """
    feed = Feed(train, heads, config.batch_size, seed, training=True, augment=config.augment)
    judge = Feed(validation, heads, max(config.batch_size, 128), seed, training=False, augment=0.0)
    baselines = {
        name: figures[heads[name].main_metric]
        for name, figures in baseline_metrics(heads, train.labels, validation.labels).items()
    }
    with EpochDisplay(config.epochs, feed.steps, done=len(progress.history)) as display:
        for epoch in range(len(progress.history) + 1, config.epochs + 1):
            start = time.monotonic()
            batches = feed.epoch(epoch)
            fitted = model.fit(batches, epochs=1, verbose=0, shuffle=False, callbacks=[display.callback()])
            row = _named({name: float(values[-1]) for name, values in fitted.history.items()}, model)
            _refuse_divergence(row, epoch)
            with model.averaged():
                row |= _validated(model, heads, validation, judge.epoch(epoch))
                main = {name: row[f"val/{name}/{head.main_metric}"] for name, head in heads.items()}
                skills = skill_scores(heads, main, baselines)
                row |= {f"val/{name}/skill": skill for name, skill in skills.items()}
                row["val/score"] = sum(skills.values())
                best = (
                    progress.best_epoch == 0
                    or row["val/score"] > progress.history[progress.best_epoch - 1]["val/score"]
                )
                if best:
                    progress.best_epoch = epoch
                    progress.best_weights = [variable.numpy() for variable in model.variables]
            for name, log_variance in model.log_variances.items():
                row[f"train/{name}/log_variance"] = float(log_variance.numpy())
                row[f"train/{name}/weight"] = math.exp(-row[f"train/{name}/log_variance"])
            row["train/learning_rate"] = float(model.optimizer.learning_rate)
            row["train/seconds"] = round(time.monotonic() - start, 3)
            progress.history.append(row)
            save_checkpoint(state, model, progress)
            display.finish_epoch(epoch, row, heads, best)
            on_epoch(epoch, row)
            signals.raise_if_interrupted()
    for variable, value in zip(model.variables, progress.best_weights, strict=True):
        variable.assign(value)
    return progress


def _named(logs: Mapping[str, float], model: MultiHeadModel) -> Row:
    """Rename Keras's ``age_mae`` to ``train/age/mae``; the losses of single heads are not weighted."""
    row = {"train/loss": float(logs["loss"])}
    for name, metrics in model.followed.items():
        # Not whatever starts with the head's name: that of another head may, too.
        for key in (model.loss_trackers[name].name, *(metric.name for metric in metrics)):
            row[f"train/{name}/{key.removeprefix(f'{name}_')}"] = float(logs[key])
    return row


def _validated(model: MultiHeadModel, heads: Mapping[str, Head], subset: Subset, batches: tf.data.Dataset) -> Row:
    """Return the losses and every figure that evaluate will give, on the validation subset."""
    outputs = model.predict(batches, verbose=0)
    targets = {name: head.targets(subset.labels[name]) for name, head in heads.items()}
    losses = model.losses_of(targets, outputs)
    row = {"val/loss": losses["loss"]}
    for name, head in heads.items():
        row[f"val/{name}/loss"] = losses[name]
        measured = head.measure(subset.labels[name], outputs_of_head(head, name, outputs))
        row |= {f"val/{name}/{figure}": value for figure, value in measured.items()}
    return row


def _refuse_divergence(row: Row, epoch: int) -> None:
    bad = [name for name, value in row.items() if not math.isfinite(value)]
    if bad:
        raise ManyheadsError(
            f"training diverged in epoch {epoch}: {', '.join(sorted(bad))} is not finite; lower train.learning_rate "
            "or the weight of that head. The epochs before it are kept."
        )
