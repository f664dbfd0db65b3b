"""What can listen to a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import keras

    from manyheads.config.schema import Config
    from manyheads.data.subsets import Subset
    from manyheads.modeling.multi_head import MultiHeadModel
    from manyheads.training.checkpoint import Progress, Row


class Training(NamedTuple):
    """A training that is about to start or to go on.

    Attributes:
        config: All settings.
        model: The compiled model.
        train: The samples to learn from.
        progress: The epochs so far.
    """

    config: Config
    model: MultiHeadModel
    train: Subset
    progress: Progress


class TrainingCallback:
    """A listener; each method does nothing by default. What a method raises ends the training."""

    def on_record(self, run_id: str) -> None:
        """Called when the MLflow run is open, with its id, or with an empty text if there is no record."""

    def on_start(self, training: Training) -> None:
        """Called once before the first epoch of this process."""

    def on_epoch(self, epoch: int, row: Row) -> None:
        """Called after each epoch with its number, counted from 1, and its metrics; the epoch is saved by then."""

    def on_end(self, network: keras.Model, metrics: dict[str, float]) -> None:
        """Called with the network for inference and the metrics of the training, when its files are written."""
