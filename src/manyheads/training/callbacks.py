"""The interface of listeners to a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import keras

    from manyheads.config.schema import Config
    from manyheads.data.subsets import Subset
    from manyheads.training.checkpoint import Progress, Row


class Training(NamedTuple):
    """A training that is about to start or to continue.

    Attributes:
        config: All settings.
        network: The network from the inputs to the outputs.
        train: The training subset.
        progress: The finished epochs.
    """

    config: Config
    network: keras.Model
    train: Subset
    progress: Progress


class TrainingCallback:
    """A listener; its methods do nothing by default. An exception of a method ends the training."""

    def on_record(self, run_id: str) -> None:
        """Called when the MLflow run is open, with its id, or with an empty text if there is no run."""

    def on_start(self, training: Training) -> None:
        """Called once before the first epoch of this process."""

    def on_epoch(self, epoch: int, row: Row) -> None:
        """Called after each epoch and its checkpoint with the epoch, counted from 1, and its metrics."""

    def on_end(self, network: keras.Model, metrics: dict[str, float]) -> None:
        """Called after the files are written with the network for inference and the metrics of the training."""
