"""Optimizers with their learning-rate schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyheads.config.schema import TrainConfig

if TYPE_CHECKING:
    import keras

MOMENTUM = 0.9
"""Of ``sgd``, which is Nesterov's."""


def optimizer_for(config: TrainConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return the optimizer with its learning-rate schedule.

    Args:
        config: The settings; see ``TrainConfig``.
        steps_per_epoch: Number of steps in an epoch.
    """
    import keras

    rate: float | keras.optimizers.schedules.LearningRateSchedule = config.learning_rate
    if config.schedule == "cosine":
        warmup = round(min(config.warmup_epochs, config.epochs) * steps_per_epoch)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=config.learning_rate / 100 if warmup else config.learning_rate,
            decay_steps=max(1, config.epochs * steps_per_epoch - warmup),
            warmup_target=config.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    elif config.schedule == "inverse_time":
        rate = keras.optimizers.schedules.InverseTimeDecay(
            config.learning_rate, decay_steps=1, decay_rate=config.learning_rate / config.epochs
        )
    if config.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    if config.optimizer == "rmsprop":
        return keras.optimizers.RMSprop(rate)
    optimizer: keras.optimizers.Optimizer
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=MOMENTUM, nesterov=True, weight_decay=config.weight_decay)
    else:
        optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "log_variance"])
    return optimizer
