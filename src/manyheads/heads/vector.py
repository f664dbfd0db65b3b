"""A head for one or several real numbers within bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import PositiveInt, model_validator

from manyheads.heads.base import Head, HeadLoss, Labels, LabelStatistics, Outputs, Scale
from manyheads.heads.metrics import Metric

if TYPE_CHECKING:
    import keras
    import pandas as pd


class Vector(Head):
    """One or several real numbers within bounds, predicted together; errors are means over the numbers.

    The losses are ``mae``, ``mse`` and ``huber`` of the standardized label.

    Attributes:
        unit: Unit of the numbers in the plural, such as ``metres``.
        width: Number of numbers in a label.
        minimum: Smallest accepted number.
        maximum: Largest accepted number.
    """

    kind: Literal["vector"] = "vector"
    unit: str
    width: PositiveInt = 1
    minimum: float
    maximum: float

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.minimum >= self.maximum:
            raise ValueError(f"minimum must be below maximum, got {self.minimum:g} and {self.maximum:g}")
        return self

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the label's numbers."""
        return tuple(str(i) for i in range(self.width))

    @property
    def loss_functions(self) -> tuple[str, ...]:
        return ("mae", "mse", "huber")

    @property
    def output_units(self) -> Mapping[str, int]:
        return {"": self.width}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(name="mae", greater_is_better=False),
            Metric(name="rmse", greater_is_better=False, headline=False),
            Metric(name="r2"),
        )

    @property
    def label_columns(self) -> tuple[str, ...]:
        return (self.name,) if self.width == 1 else tuple(f"{self.name}_{number}" for number in self.numbers)

    @property
    def label_unit(self) -> str:
        return self.unit

    @property
    def label_dtype(self) -> str:
        return "Float64"

    def read(self, value: Any) -> tuple[Any, ...]:
        """Return the numbers of a text, separated by blanks, or of a sequence; see ``Head.read``."""
        if value is None or value == "":
            return (None,) * self.width
        words = value.split() if isinstance(value, str) else value if isinstance(value, Sequence) else [value]
        try:
            numbers = tuple(float(word) for word in words)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"{value!r} is not a row of numbers") from None
        if len(numbers) != self.width:
            raise ValueError(f"has {len(numbers)} numbers, not {self.width}")
        for number in numbers:
            if not self.minimum <= number <= self.maximum:
                raise ValueError(f"{number:g} is outside {self.minimum:g} to {self.maximum:g} {self.unit}")
        return numbers

    def _labels_in(self, table: pd.DataFrame, columns: tuple[str, ...]) -> Labels:
        """Return the labels, shape (n, width), float64; a row that contains NaN is a missing label."""
        return np.asarray(table[list(columns)].to_numpy(dtype=np.float64, na_value=np.nan, copy=True))

    def _statistics(self, scale: Scale, labels: Labels) -> LabelStatistics:
        if scale == "standard":
            spreads = np.std(labels, axis=0)
            return LabelStatistics(
                centers=tuple(np.mean(labels, axis=0).tolist()),
                spreads=tuple(np.where(spreads > 0, spreads, 1.0).tolist()),
            )
        spread = max(abs(self.minimum), abs(self.maximum)) if scale == "maximum" else 1.0
        return LabelStatistics(centers=(0.0,) * self.width, spreads=(spread,) * self.width)

    def outputs(
        self, features: keras.KerasTensor, loss: str, statistics: LabelStatistics
    ) -> dict[str, keras.KerasTensor]:
        """Return the numbers in the label's unit."""
        import keras

        del loss
        standardized = keras.layers.Dense(self.width, dtype="float32", name=f"{self.name}_standardised")(features)
        rescaling = keras.layers.Rescaling(
            list(statistics.spreads), list(statistics.centers), dtype="float32", name=self.name
        )
        return {self.name: rescaling(standardized)}

    def loss(self, function: str, statistics: LabelStatistics) -> HeadLoss:
        """Return the loss on standardized labels; targets and outputs are in the label's unit."""
        import keras

        losses: dict[str, keras.losses.Loss] = {
            "mse": keras.losses.MeanSquaredError(),
            "mae": keras.losses.MeanAbsoluteError(),
            "huber": keras.losses.Huber(),
        }
        loss = losses[function]
        spreads = np.asarray(statistics.spreads, dtype=np.float32)

        def standardized_loss(targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
            return loss(targets[self.name] / spreads, outputs[self.name] / spreads)

        return standardized_loss

    def training_metrics(self) -> list[keras.metrics.Metric]:
        import keras

        return [keras.metrics.MeanAbsoluteError(name=f"{self.name}_mae")]

    def values(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        return outputs.astype(np.float64)

    @property
    def answer_meanings(self) -> Mapping[str, str]:
        return {"": f"{', '.join(self.label_columns)} in {self.unit}"}

    def prediction_columns(self, outputs: Outputs) -> dict[str, Any]:
        columns = self.label_columns
        return {column: np.round(outputs[:, i].astype(np.float64), 5) for i, column in enumerate(columns)}

    def as_json(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """Return the number, or each number by its name; see ``Head.as_json``."""
        answer = super().as_json(cells)
        if self.width == 1:
            return answer
        return answer | {"value": dict(zip(self.numbers, answer["value"].values(), strict=True))}

    def texts(self, labels: Labels) -> npt.NDArray[Any]:
        return np.array([" ".join(f"{number:.6g}" for number in label) for label in labels], dtype=object)

    def label_cells(self, labels: Labels) -> dict[str, Any]:
        return {f"{column}_label": labels[:, i] for i, column in enumerate(self.label_columns)}

    def _contributions(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return 1, the mean absolute error, the sums of squared errors and labels, and the labels: (n, 4 + width)."""
        error = self.values(outputs) - labels
        columns = [np.ones(len(labels)), np.abs(error).mean(axis=1), (error**2).sum(axis=1), (labels**2).sum(axis=1)]
        return np.concatenate([np.stack(columns, axis=1), labels], axis=1, dtype=np.float64)

    def compute_metrics(self, sums: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        """Return errors over all numbers; ``r2`` is the explained share of the sum of their variances."""
        n, absolute, squared, squares = (sums[..., i] for i in range(4))
        totals = sums[..., 4 : 4 + self.width]
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = squares - (totals**2).sum(axis=-1) / n
            return {
                "mae": absolute / n,
                "rmse": np.sqrt(squared / n / self.width),
                "r2": np.where(variance > 1e-9 * squares, 1 - squared / variance, np.nan),
            }

    def errors(self, contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the mean absolute error of the numbers, shape (n,)."""
        return contributions[:, 1]
