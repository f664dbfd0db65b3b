"""A head for the bounding box of an object in its image."""

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
    """A bounding box (left, top, width, height) in shares of its image's width and height, evaluated by overlap.

    The losses are those of ``Vector`` and ``localisation``. The latter depends on two outputs, as the loss of SSD does
    (Liu et al., ECCV 2016): the Huber loss of the box, weighted by the probability that the head ``of`` gives to the
    presence of an object.

    Attributes:
        of: Name of the head that classifies the object; its first class means that there is no object. Empty if there
            is an object in every image; the loss ``localisation`` does not exist then.
    """

    kind: Literal["box"] = "box"  # type: ignore[assignment]
    unit: str = "shares of the image"
    width: Literal[4] = 4
    minimum: float = 0.0
    maximum: float = 1.0
    of: str = ""

    @property
    def numbers(self) -> tuple[str, ...]:
        return NUMBERS

    @property
    def loss_functions(self) -> tuple[str, ...]:
        return (*super().loss_functions, *(["localisation"] if self.of else []))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (Metric(name="iou"), Metric(name="iou_50"), *super().metrics)

    @property
    def is_spatial(self) -> bool:
        return True

    def conflict_with(self, heads: Mapping[str, Head]) -> str | None:
        if not self.of or (self.of in heads and heads[self.of].class_names):
            return None
        return f"of is {self.of!r}, which is not a head with classes"

    def read(self, value: Any) -> tuple[Any, ...]:
        """Return a box that is inside its image and not empty; see ``Head.read``."""
        box = super().read(value)
        if box[0] is None:
            return box
        left, top, width, height = box
        if width <= 0 or height <= 0:
            raise ValueError(f"{width:g} by {height:g} is an empty box")
        # Rounded shares may add up to slightly more than 1.
        if left + width > 1 + 1e-6 or top + height > 1 + 1e-6:
            raise ValueError(f"{left:g} {top:g} {width:g} {height:g} reaches beyond its image")
        return box

    def outputs(
        self, features: keras.KerasTensor, loss: str, statistics: LabelStatistics
    ) -> dict[str, keras.KerasTensor]:
        """Return the box, shape (batch, 4), each number between 0 and 1."""
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
            presence = 1 - outputs[self.of][:, 0]
            return ops.divide_no_nan(ops.sum(huber * presence), ops.sum(presence))

        return localisation

    def training_metrics(self) -> list[keras.metrics.Metric]:
        import keras

        def iou(targets: Any, outputs: Any) -> Any:
            return _overlap(targets, outputs, keras.ops)

        return [keras.metrics.MeanMetricWrapper(iou, name=f"{self.name}_iou")]

    def _contributions(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return the contributions of ``Vector``, the overlap, and whether it is at least 0.5, shape (n, 10)."""
        overlap = self.overlap(labels, outputs)
        return np.concatenate(
            [super()._contributions(labels, outputs), np.stack([overlap, overlap >= 0.5], axis=1)], axis=1
        )

    def overlap(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return the intersection over union of labels and predictions, shape (n,), 0 to 1."""
        return np.asarray(_overlap(labels, self.values(outputs), np), dtype=np.float64)

    def compute_metrics(self, sums: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        """Return ``iou`` (mean overlap), ``iou_50`` (share of overlaps from 0.5) and the metrics of ``Vector``."""
        n = sums[..., 0]
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"iou": sums[..., 8] / n, "iou_50": sums[..., 9] / n, **super().compute_metrics(sums)}

    def is_correct(self, contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return which boxes have an overlap of at least 0.5, shape (n,)."""
        return np.asarray(contributions[:, 9] > 0)

    def errors(self, contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return 1 minus the overlap, shape (n,)."""
        return 1 - contributions[:, 8]

    def disagreement(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return 1 minus the overlap, shape (n,)."""
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
