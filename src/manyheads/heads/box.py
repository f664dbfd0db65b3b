"""A label that is the place of an object in its image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from manyheads.heads.base import Head, HeadLoss, Labels, LabelStatistics, Outputs
from manyheads.heads.metrics import Metric
from manyheads.heads.vector import Vector

if TYPE_CHECKING:
    import keras

NUMBERS = ("left", "top", "width", "height")


class Box(Vector):
    """A box as shares of its image's width and height: left and upper edge, width, height. Judged by overlap.

    Beside the losses of numbers there is ``localisation``, which looks at two outputs at once, as the loss of SSD does
    (Liu et al., ECCV 2016): Huber's loss of the boxes, weighted by the probability with which the head ``of`` says that
    there is an object at all.

    Attributes:
        of: The head that says what the object is; its first class is that there is nothing.
    """

    kind: Literal["box"] = "box"  # type: ignore[assignment]
    unit: str = "shares of the image"
    width: Literal[4] = 4
    minimum: float = 0.0
    maximum: float = 1.0
    of: str

    @property
    def numbers(self) -> tuple[str, ...]:
        return NUMBERS

    @property
    def loss_functions(self) -> tuple[str, ...]:
        return (*super().loss_functions, "localisation")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (Metric(name="iou"), Metric(name="iou_50"), *super().metrics)

    @property
    def is_spatial(self) -> bool:
        return True

    def conflict_with(self, heads: Mapping[str, Head]) -> str | None:
        if self.of in heads and heads[self.of].class_names:
            return None
        return f"of is {self.of!r}, which is no head with classes"

    def read(self, value: Any) -> tuple[Any, ...]:
        """Return a box that lies inside its image and is not empty; see ``Head.read``."""
        box = super().read(value)
        if box[0] is None:
            return box
        left, top, width, height = box
        if width <= 0 or height <= 0:
            raise ValueError(f"{width:g} by {height:g} is an empty box")
        # Shares that were rounded may add up to a little more than 1.
        if left + width > 1 + 1e-6 or top + height > 1 + 1e-6:
            raise ValueError(f"{left:g} {top:g} {width:g} {height:g} reaches beyond its image")
        return box

    def outputs(
        self, features: keras.KerasTensor, loss: str, statistics: LabelStatistics
    ) -> dict[str, keras.KerasTensor]:
        """Return the box, its numbers between 0 and 1."""
        import keras

        del loss, statistics
        return {self.name: keras.layers.Dense(4, activation="sigmoid", dtype="float32", name=self.name)(features)}

    def loss(self, function: str, statistics: LabelStatistics) -> HeadLoss:
        if function != "localisation":
            return super().loss(function, statistics)
        import keras

        ops = keras.ops
        spreads = np.asarray(statistics.spreads, dtype=np.float32)

        def localisation(targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
            huber = keras.losses.huber(targets[self.name] / spreads, outputs[self.name] / spreads)
            object_there = 1 - outputs[self.of][:, 0]
            return ops.divide_no_nan(ops.sum(huber * object_there), ops.sum(object_there))

        return localisation

    def training_metrics(self) -> list[keras.metrics.Metric]:
        import keras

        def iou(targets: Any, outputs: Any) -> Any:
            return _overlap(targets, outputs, keras.ops)

        return [keras.metrics.MeanMetricWrapper(iou, name=f"{self.name}_iou")]

    def _contributions(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return those of the numbers, and the overlap and whether it is half, shape (n, 10)."""
        overlap = self.overlap(labels, outputs)
        return np.concatenate(
            [super()._contributions(labels, outputs), np.stack([overlap, overlap >= 0.5], axis=1)], axis=1
        )

    def overlap(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return the intersection of label and prediction divided by their union, shape (n,), 0 to 1."""
        return np.asarray(_overlap(labels, self.values(outputs), np), dtype=np.float64)

    def compute_metrics(self, sums: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        """Return the mean overlap (``iou``), the share of boxes that overlap by half, and the numbers' errors."""
        n = sums[..., 0]
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"iou": sums[..., 8] / n, "iou_50": sums[..., 9] / n, **super().compute_metrics(sums)}

    def is_correct(self, contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return which boxes overlap by half."""
        return np.asarray(contributions[:, 9] > 0)

    def errors(self, contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return how far the overlap is from whole."""
        return 1 - contributions[:, 8]

    def disagreement(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return how far the overlap is from whole."""
        return 1 - self.overlap(labels, outputs)


def _overlap(first: Any, second: Any, ops: Any) -> Any:
    def shared(along: int) -> Any:
        (low, high), (other_low, other_high) = (
            (box[:, along], box[:, along] + box[:, along + 2]) for box in (first, second)
        )
        return ops.maximum(ops.minimum(high, other_high) - ops.maximum(low, other_low), 0.0)

    intersection = shared(0) * shared(1)
    union = first[:, 2] * first[:, 3] + second[:, 2] * second[:, 3] - intersection
    return intersection / ops.maximum(union, 1e-9)
