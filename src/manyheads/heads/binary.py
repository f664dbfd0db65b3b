"""A head for two classes, predicted as the probability of the second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from manyheads.heads.base import HeadLoss, Labels, LabelStatistics, Outputs
from manyheads.heads.categorical import Categorical

if TYPE_CHECKING:
    import keras


class Binary(Categorical):
    """A label of two classes, predicted by one sigmoid unit; its loss is ``binary_crossentropy``.

    Attributes:
        classes: Names of the two classes; the output is the probability of the second.
    """

    kind: Literal["binary"] = "binary"  # type: ignore[assignment]
    classes: tuple[str, ...] = Field(min_length=2, max_length=2)

    @property
    def loss_functions(self) -> tuple[str, ...]:
        return ("binary_crossentropy",)

    @property
    def output_units(self) -> Mapping[str, int]:
        return {"": 1}

    def outputs(
        self, features: keras.KerasTensor, loss: str, statistics: LabelStatistics
    ) -> dict[str, keras.KerasTensor]:
        """Return the probability of the second class."""
        import keras

        del loss, statistics
        return {self.name: keras.layers.Dense(1, activation="sigmoid", dtype="float32", name=self.name)(features)}

    def _targets(self, labels: Labels) -> npt.NDArray[np.float32]:
        return labels.astype(np.float32)[:, None]

    def loss(self, function: str, statistics: LabelStatistics) -> HeadLoss:
        import keras

        del function, statistics
        loss = keras.losses.BinaryCrossentropy()

        def binary_crossentropy(targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
            return loss(targets[self.name], outputs[self.name])

        return binary_crossentropy

    def training_metrics(self) -> list[keras.metrics.Metric]:
        import keras

        return [keras.metrics.BinaryAccuracy(name=f"{self.name}_accuracy")]

    def _baseline_output(self, labels: Labels) -> Outputs:
        return np.array([[float(np.mean(labels) > 0.5)]], dtype=np.float32)

    def probabilities(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return the probabilities of both classes, shape (n, 2)."""
        return super().probabilities(np.concatenate([1 - outputs, outputs], axis=1))

    def answers(self, outputs: Mapping[str, keras.KerasTensor]) -> dict[str, keras.KerasTensor]:
        import keras

        second = outputs[self.name]
        return super().answers({self.name: keras.ops.concatenate([1 - second, second], axis=1)})
