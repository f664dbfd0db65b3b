"""The display of a training: a bar on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from manyheads.heads import Head
from manyheads.runtime.progress import progress_bar
from manyheads.training.checkpoint import Row

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)


class EpochDisplay:
    """A bar over all epochs on a terminal; one log line per epoch elsewhere.

    Args:
        epochs: Number of epochs in total.
        steps: Number of steps in an epoch.
        done: Number of finished epochs.
    """

    def __init__(self, epochs: int, steps: int, done: int):
        self.epochs, self.done = epochs, done
        self.start = time.monotonic()
        self.bar = progress_bar("steps")
        self.task = self.bar.add_task(f"epoch {done + 1}", total=epochs * steps, completed=done * steps)

    def __enter__(self) -> EpochDisplay:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def callback(self) -> keras.callbacks.Callback:
        """Return a Keras callback that advances the bar after each step."""
        import keras

        return keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: self.bar.advance(self.task)  # noqa: ARG005 - Keras passes them by name
        )

    def finish_epoch(self, epoch: int, row: Row, heads: Mapping[str, Head], best: bool) -> None:
        """Write the line of an epoch, on a terminal above the bar."""
        metrics = "  ".join(
            f"{name} {head.main_metric} {row[f'val/{name}/{head.main_metric}']:.3f}" for name, head in heads.items()
        )
        seconds = (time.monotonic() - self.start) / (epoch - self.done) * (self.epochs - epoch)
        left = f", {duration(seconds)} left" if epoch < self.epochs else ""
        line = (
            f"epoch {epoch}/{self.epochs}  loss {row['train/loss']:.3f}  val: {metrics}  score {row['val/score']:.3f}"
            f"{' *' if best else '  '}  {duration(row['train/seconds'])}{left}"
        )
        if self.bar.disable:
            logger.info(line)
        else:
            self.bar.console.print(line, highlight=False)
            self.bar.update(self.task, description=f"epoch {min(epoch + 1, self.epochs)}")


def duration(seconds: float) -> str:
    """Return a duration as text.

    Example:
        >>> duration(83.4)
        '1 min 23 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
