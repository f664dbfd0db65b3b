"""Fitting a model epoch by epoch: resumable, and judged by a score that no loss weight touches.

After each epoch the whole state (weights, optimiser, random seeds, history, the best weights so far) is written aside
and renamed, in one file whose name is a digest of everything that shapes the result. The order of the samples and
their augmentation depend on seed and epoch alone. So the same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import logging
import math
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from manyheads import interruption
from manyheads.augment import augment, draws
from manyheads.config import TrainConfig
from manyheads.errors import IntegrityError, ManyheadsError
from manyheads.files import write_aside
from manyheads.heads import Head, gains, trivial_baselines
from manyheads.locks import exclusive
from manyheads.model import IMAGES, side_by_side
from manyheads.parts import Part
from manyheads.progress import progress_bar

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from manyheads.objective import MultiHead

logger = logging.getLogger(__name__)

Row = dict[str, float]

TRUST = 0.5
"""How much of a target is the prediction of the generation before; the rest is the label."""


@dataclass
class Progress:
    """How far a training is: what is kept between two runs of the same command.

    Attributes:
        history: One row of figures for each finished epoch.
        best_epoch: Epoch of the highest score, counted from 1; 0 before the first.
        best_weights: The model's variables at that epoch.
        run_id: The MLflow run that the training is recorded in, or an empty text.
        shaped_by: All that shapes the training, by name.
        generation: Which of ``TrainConfig.generations`` is being trained, counted from 1.
        targets: What each head is trained towards, shape (n, units), if it is not the labels alone.
        earlier: Figures of the generations before.
    """

    history: list[Row] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: list[npt.NDArray[Any]] = field(default_factory=list)
    run_id: str = ""
    shaped_by: Mapping[str, str] = field(default_factory=dict)
    generation: int = 1
    targets: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    earlier: dict[str, float] = field(default_factory=dict)


def optimizer_for(config: TrainConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return the optimiser with its learning-rate schedule; see ``TrainConfig``."""
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
    optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "log_variance"])
    return optimizer


class Feed:
    """Batches of one part as a ``tf.data.Dataset``, gathered from the memory map as they are needed."""

    def __init__(
        self, part: Part, heads: Mapping[str, Head], batch_size: int, seed: int, *, training: bool, augment: float
    ):
        self.part = part
        self.targets = {name: head.targets(part.labels[name]) for name, head in heads.items()}
        self.batch_size = batch_size
        self.seed = seed
        self.training = training
        self.augment = augment
        # A last batch of a few images would make batch normalisation's statistics poor; each epoch drops others.
        self.steps = max(1, len(part) // batch_size) if training else math.ceil(len(part) / batch_size)
        self.order = np.arange(len(part))
        self.draws = draws(seed, 0, 0)

    def epoch(self, number: int) -> tf.data.Dataset:
        """Return the batches of an epoch; shuffled and changed if they are for training.

        Order and augmentation depend on seed, epoch and sample alone.
        """
        if self.training:
            self.order = np.random.default_rng([self.seed, number]).permutation(len(self.part))
        if self.augment:
            self.draws = draws(self.seed, number, len(self.part))
        return self._dataset()

    def _load(self, step: int) -> list[npt.NDArray[Any]]:
        chosen = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        rows = self.part.rows[chosen]
        inputs = [values[rows] for values in self.part.inputs.values()]
        if self.augment:
            inputs = [
                augment(values, self.draws[chosen], self.augment) if values.ndim == IMAGES else values
                for values in inputs
            ]
        return [*inputs, *(target[chosen] for target in self.targets.values())]

    def _dataset(self) -> tf.data.Dataset:
        import tensorflow as tf

        arrays = [*self.part.inputs.values(), *self.targets.values()]
        names = [*self.part.inputs, *self.targets]
        n_inputs = len(self.part.inputs)

        def load(step: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
            loaded = tf.numpy_function(self._load, [step], [array.dtype for array in arrays])
            for values, array in zip(loaded, arrays, strict=True):
                values.set_shape((None, *array.shape[1:]))
            named = list(zip(names, loaded, strict=True))
            return dict(named[:n_inputs]), dict(named[n_inputs:])

        # Autotuning has nothing to tune here, and holds an epoch's end back until its thread wakes: at 10, 20, 41 s.
        options = tf.data.Options()
        options.autotune.enabled = False
        dataset = tf.data.Dataset.range(self.steps).map(load).with_options(options)
        return dataset.apply(tf.data.experimental.assert_cardinality(self.steps)).prefetch(4)


def fit(
    model: MultiHead,
    heads: Mapping[str, Head],
    train: Part,
    validation: Part,
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
    feed.targets |= progress.targets
    judge = Feed(validation, heads, max(config.batch_size, 128), seed, training=False, augment=0.0)
    baselines = {
        name: figures[heads[name].main_metric]
        for name, figures in trivial_baselines(heads, train.labels, validation.labels).items()
    }
    with _Display(config.epochs, feed.steps, done=len(progress.history)) as display:
        for epoch in range(len(progress.history) + 1, config.epochs + 1):
            start = time.monotonic()
            batches = feed.epoch(epoch)
            fitted = model.fit(batches, epochs=1, verbose=0, shuffle=False, callbacks=[display.callback()])
            row = _named({name: float(values[-1]) for name, values in fitted.history.items()}, model)
            _refuse_divergence(row, epoch)
            with model.averaged():
                row |= _judged(model, heads, validation, judge.epoch(epoch))
                main = {name: row[f"val/{name}/{head.main_metric}"] for name, head in heads.items()}
                gained = gains(heads, main, baselines)
                row |= {f"val/{name}/gain": gain for name, gain in gained.items()}
                row["val/score"] = sum(gained.values())
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
            save_state(state, model, progress)
            display.finish_epoch(epoch, row, heads, best)
            on_epoch(epoch, row)
            interruption.heed()
    for variable, value in zip(model.variables, progress.best_weights, strict=True):
        variable.assign(value)
    return progress


def next_generation(
    progress: Progress, labels: Mapping[str, npt.NDArray[np.float32]], taught: Mapping[str, npt.NDArray[np.float32]]
) -> Progress:
    """Return the start of the generation after a finished one: born-again networks (Furlanello et al., ICML 2018).

    A network's predictions say which samples are like which classes, and disagree with labels that are wrong.

    Args:
        progress: The finished generation's.
        labels: Targets of the training part as labelled, shape (n, units) for each head.
        taught: Targets as the finished generation sees them, of the same shapes.
    """
    # Where a label is missing, the network before knows more.
    targets = {
        name: np.where(np.isfinite(labels[name]), TRUST * taught[name] + (1 - TRUST) * labels[name], taught[name])
        for name in labels
    }
    finished = f"generation_{progress.generation}"
    earlier = {
        f"{finished}/best/val/score": progress.history[progress.best_epoch - 1]["val/score"],
        f"{finished}/wall_seconds": sum(row["train/seconds"] for row in progress.history),
    }
    return Progress(
        run_id=progress.run_id,
        shaped_by=progress.shaped_by,
        generation=progress.generation + 1,
        targets=targets,
        earlier=progress.earlier | earlier,
    )


def _named(logs: Mapping[str, float], model: MultiHead) -> Row:
    """Rename Keras's ``age_mae`` to ``train/age/mae``; the losses of single heads are not weighted."""
    row = {"train/loss": float(logs["loss"])}
    for name, metrics in model.followed.items():
        # Not whatever starts with the head's name: that of another head may, too.
        for key in (model.loss_trackers[name].name, *(metric.name for metric in metrics)):
            row[f"train/{name}/{key.removeprefix(f'{name}_')}"] = float(logs[key])
    return row


def _judged(model: MultiHead, heads: Mapping[str, Head], part: Part, batches: tf.data.Dataset) -> Row:
    """Return the losses and every figure that evaluate will give, on the validation part."""
    outputs = model.predict(batches, verbose=0)
    targets = {name: head.targets(part.labels[name]) for name, head in heads.items()}
    losses = model.losses_of(targets, outputs)
    row = {"val/loss": losses["loss"]}
    for name, head in heads.items():
        row[f"val/{name}/loss"] = losses[name]
        measured = head.measure(part.labels[name], side_by_side(head, name, outputs))
        row |= {f"val/{name}/{figure}": value for figure, value in measured.items()}
    return row


def _refuse_divergence(row: Row, epoch: int) -> None:
    bad = [name for name, value in row.items() if not math.isfinite(value)]
    if bad:
        raise ManyheadsError(
            f"training diverged in epoch {epoch}: {', '.join(sorted(bad))} is not finite; lower train.learning_rate "
            "or the weight of that head. The epochs before it are kept."
        )


def _variables(model: MultiHead) -> list[keras.Variable | tf.Variable]:
    return [*model.variables, *model.averages, *model.optimizer.variables]


def save_state(path: Path, model: MultiHead, progress: Progress) -> None:
    """Write how far a training is, aside and whole; ``resume`` reads it."""
    about = {
        "history": progress.history,
        "best_epoch": progress.best_epoch,
        "run_id": progress.run_id,
        "shaped_by": progress.shaped_by,
        "generation": progress.generation,
        "earlier": progress.earlier,
    }
    arrays = {f"current_{i:05d}": variable.numpy() for i, variable in enumerate(_variables(model))}
    arrays |= {f"best_{i:05d}": value for i, value in enumerate(progress.best_weights)}
    arrays |= {f"target_{name}": values for name, values in progress.targets.items()}
    with write_aside(path) as aside, aside.open("wb") as file:
        np.savez(file, about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8), **arrays)


def recorded_run(path: Path) -> str:
    """Return the MLflow run of an unfinished training, or an empty text if there is none.

    Raises:
        IntegrityError: The state file is damaged.
    """
    if not path.exists():
        return ""
    with _state(path) as arrays:
        return str(_about(arrays)["run_id"])


def resume(path: Path, model: MultiHead, shaped_by: Mapping[str, str]) -> Progress:
    """Load the state of an unfinished training into a compiled model, or return a fresh start if there is none.

    Args:
        path: The state.
        model: Compiled as for the training that was stopped.
        shaped_by: All that shapes the training, by name.

    Raises:
        IntegrityError: The state file is damaged, or is that of another training.
    """
    if not path.exists():
        return Progress(shaped_by=shaped_by)
    if differing := differences(path, shaped_by):
        raise IntegrityError(f"{path} is of another training: {differing}. Delete it to train from the start")
    with _state(path) as arrays:
        about = _about(arrays)
        for i, variable in enumerate(_variables(model)):
            variable.assign(arrays[f"current_{i:05d}"])
        best = [arrays[f"best_{i:05d}"] for i in range(len(model.variables))] if about["best_epoch"] else []
        targets = {name.removeprefix("target_"): arrays[name] for name in arrays if name.startswith("target_")}
    return Progress(
        about["history"],
        about["best_epoch"],
        best,
        about["run_id"],
        shaped_by,
        about["generation"],
        targets,
        about["earlier"],
    )


def differences(path: Path, shaped_by: Mapping[str, str]) -> str:
    """Return in words how a state's training differs from one that is shaped by ``shaped_by``; nothing if it does not.

    Raises:
        IntegrityError: The state file is damaged.
    """
    with _state(path) as arrays:
        theirs = _about(arrays)["shaped_by"]
    names = [name for name in {**theirs, **shaped_by} if theirs.get(name) != shaped_by.get(name)]
    # Nobody reads digests.
    told = [
        f"{name} is {theirs.get(name, 'not set')} there, {shaped_by.get(name, 'not set')} here"
        if max(len(theirs.get(name, "")), len(shaped_by.get(name, ""))) < 64
        else f"{name} differs"
        for name in names
    ]
    more = f" and {len(told) - 3} more" if len(told) > 3 else ""
    return "; ".join(told[:3]) + more


@contextmanager
def _state(path: Path) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"{path} is damaged ({error}): delete it to train from the start") from error


def _about(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    return dict(json.loads(arrays["about"].tobytes()))


def alone(path: Path) -> AbstractContextManager[None]:
    """Hold the lock of a training; two processes never write the same state.

    Raises:
        MachineError: Another process trains the same.
    """
    return exclusive(path.with_suffix(".lock"), "trains the same model")


class _Display:
    """A bar over all epochs on a terminal; elsewhere one line an epoch."""

    def __init__(self, epochs: int, steps: int, done: int):
        self.epochs, self.done = epochs, done
        self.start = time.monotonic()
        self.bar = progress_bar()
        self.task = self.bar.add_task(f"epoch {done + 1}", total=epochs * steps, completed=done * steps)

    def __enter__(self) -> _Display:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def callback(self) -> keras.callbacks.Callback:
        """Return a callback that moves the bar on by a step."""
        import keras

        return keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: self.bar.advance(self.task)  # noqa: ARG005 - Keras names them
        )

    def finish_epoch(self, epoch: int, row: Row, heads: Mapping[str, Head], best: bool) -> None:
        """Write the epoch's line; with the bar it stands above it."""
        figures = "  ".join(
            f"{name} {head.main_metric} {row[f'val/{name}/{head.main_metric}']:.3f}" for name, head in heads.items()
        )
        seconds = (time.monotonic() - self.start) / (epoch - self.done) * (self.epochs - epoch)
        left = f", {_duration(seconds)} left" if epoch < self.epochs else ""
        line = (
            f"epoch {epoch}/{self.epochs}  loss {row['train/loss']:.3f}  val: {figures}  score {row['val/score']:.3f}"
            f"{' *' if best else '  '}  {_duration(row['train/seconds'])}{left}"
        )
        if self.bar.disable:
            logger.info(line)
        else:
            self.bar.console.print(line, highlight=False)
            self.bar.update(self.task, description=f"epoch {min(epoch + 1, self.epochs)}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
