"""A label that is several numbers, or one that is not whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import PositiveInt, model_validator

from manyheads.heads.base import Head, HeadReport, Labels, LabelStatistics, Outputs, Scale, Term
from manyheads.metrics.metric import Metric

if TYPE_CHECKING:
    import keras
    import pandas as pd
    from matplotlib.figure import Figure


class Vector(Head):
    """Numbers within bounds, regressed together; errors are means over the numbers.

    The losses: ``mse``, ``mae`` and ``huber``, of the standardised label.

    Attributes:
        unit: What the numbers count, for tables and axes.
        width: How many numbers a label is.
        minimum: Smallest number that is accepted.
        maximum: Largest.
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
        return ("mse", "mae", "huber")

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
    def class_names(self) -> tuple[str, ...]:
        return ()

    @property
    def stratum_names(self) -> tuple[str, ...]:
        return ("all",)

    def label_columns(self, name: str) -> tuple[str, ...]:
        return (name,) if self.width == 1 else tuple(f"{name}_{number}" for number in self.numbers)

    @property
    def label_dtype(self) -> str:
        return "Float64"

    def read(self, value: Any) -> tuple[Any, ...]:
        """Return the numbers of a text, apart by blanks, or of a sequence; see ``Head.read``."""
        if value is None or value == "":
            return (None,) * self.width
        words = value.split() if isinstance(value, str) else value if isinstance(value, Sequence) else [value]
        try:
            numbers = tuple(float(word) for word in words)
        except (TypeError, ValueError):
            raise ValueError(f"{value!r} is no row of numbers") from None
        if len(numbers) != self.width:
            raise ValueError(f"has {len(numbers)} numbers, not {self.width}")
        for number in numbers:
            if not self.minimum <= number <= self.maximum:
                raise ValueError(f"{number:g} is outside {self.minimum:g} to {self.maximum:g} {self.unit}")
        return numbers

    def labels_of(self, name: str, table: pd.DataFrame) -> Labels:
        """Return the labels, shape (n, width), float64; a row with a missing number is missing."""
        return np.asarray(table[list(self.label_columns(name))].to_numpy(dtype=np.float64, na_value=np.nan, copy=True))

    def _strata(self, labels: Labels) -> npt.NDArray[np.int64]:
        return np.zeros(len(labels), dtype=np.int64)

    def _describe(self, labels: Labels) -> dict[str, float]:
        return {"mean": round(float(np.mean(labels)), 4), "median": round(float(np.median(labels)), 4)}

    def _statistics(self, mode: Scale, labels: Labels) -> LabelStatistics:
        if mode == "standard":
            spreads = np.std(labels, axis=0)
            return LabelStatistics(
                centers=tuple(np.mean(labels, axis=0).tolist()),
                spreads=tuple(np.where(spreads > 0, spreads, 1.0).tolist()),
            )
        spread = max(abs(self.minimum), abs(self.maximum)) if mode == "maximum" else 1.0
        return LabelStatistics(centers=(0.0,) * self.width, spreads=(spread,) * self.width)

    def outputs(
        self, features: keras.KerasTensor, name: str, loss: str, statistics: LabelStatistics
    ) -> dict[str, keras.KerasTensor]:
        """Return the numbers in the label's unit."""
        import keras

        del loss
        standardised = keras.layers.Dense(self.width, dtype="float32", name=f"{name}_standardised")(features)
        rescaling = keras.layers.Rescaling(
            list(statistics.spreads), list(statistics.centers), dtype="float32", name=name
        )
        return {name: rescaling(standardised)}

    def _targets(self, labels: Labels) -> npt.NDArray[np.float32]:
        return np.asarray(labels, dtype=np.float32)

    def term(self, name: str, function: str, statistics: LabelStatistics) -> Term:
        """Return the loss on standardised labels, while targets and outputs keep the label's unit."""
        import keras

        losses: dict[str, keras.losses.Loss] = {
            "mse": keras.losses.MeanSquaredError(),
            "mae": keras.losses.MeanAbsoluteError(),
            "huber": keras.losses.Huber(),
        }
        loss = losses[function]
        spreads = np.asarray(statistics.spreads, dtype=np.float32)

        def term(targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
            return loss(targets[name] / spreads, outputs[name] / spreads)

        return term

    def training_metrics(self, name: str) -> list[keras.metrics.Metric]:
        import keras

        return [keras.metrics.MeanAbsoluteError(name=f"{name}_mae")]

    def _baseline_output(self, labels: Labels) -> Outputs:
        return np.median(labels, axis=0, keepdims=True).astype(np.float32)

    def values(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        return outputs.astype(np.float64)

    def confidence(self, outputs: Outputs) -> None:
        """Return None: the numbers say nothing of how sure they are."""
        del outputs

    @property
    def audit_loss(self) -> str:
        return "mae"

    def disagreement(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return the mean absolute error of the numbers."""
        return np.asarray(np.abs(outputs - labels).mean(axis=1), dtype=np.float64)

    def columns(self, name: str, outputs: Outputs) -> dict[str, Any]:
        columns = self.label_columns(name)
        return {column: np.round(outputs[:, i].astype(np.float64), 5) for i, column in enumerate(columns)}

    def names(self, labels: Labels) -> npt.NDArray[Any]:
        return np.array([" ".join(f"{number:.6g}" for number in label) for label in labels], dtype=object)

    def written(self, name: str, labels: Labels) -> dict[str, Any]:
        return {f"{column}_label": labels[:, i] for i, column in enumerate(self.label_columns(name))}

    def recorded(self, name: str, table: pd.DataFrame) -> tuple[Labels, npt.NDArray[np.float64]]:
        columns = list(self.label_columns(name))
        labels = table[[f"{column}_label" for column in columns]].to_numpy(np.float64)
        return labels, self.contributions(labels, table[columns].to_numpy(np.float32))

    def _contributions(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return the mean error, the sum of squared errors and of squares, and the numbers, shape (n, 4 + width)."""
        error = self.values(outputs) - labels
        columns = [np.ones(len(labels)), np.abs(error).mean(axis=1), (error**2).sum(axis=1), (labels**2).sum(axis=1)]
        return np.concatenate([np.stack(columns, axis=1), labels], axis=1, dtype=np.float64)

    def figures(self, sums: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        """Return errors over all numbers; ``r2`` is the share that is explained of their variances' sum."""
        n, absolute, squared, squares = (sums[..., i] for i in range(4))
        totals = sums[..., 4 : 4 + self.width]
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = squares - (totals**2).sum(axis=-1) / n
            return {
                "mae": absolute / n,
                "rmse": np.sqrt(squared / n / self.width),
                "r2": np.where(variance > 1e-9 * squares, 1 - squared / variance, np.nan),
            }

    def error(self, contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the mean absolute error of the numbers."""
        return contributions[:, 1]

    def gain(self, value: float, baseline: float) -> float:
        return 1 - value / baseline if baseline else 0.0

    def report(self, labels: Labels, outputs: Outputs) -> HeadReport:
        """Return the figures, over all numbers and for each."""
        figures = self.measure(labels, outputs)
        error = self.values(outputs) - labels
        lines = [f"{'':>12} {'mae':>8} {'bias':>8}"]
        rows = {number: (np.abs(error[:, i]).mean(), error[:, i].mean()) for i, number in enumerate(self.numbers)}
        lines += [f"{number:>12} {mae:8.4f} {bias:+8.4f}" for number, (mae, bias) in rows.items()]
        lines.append(f"\nerrors in {self.unit}; " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
        data = {
            "all": figures,
            **{number: {"mae": float(mae), "bias": float(bias)} for number, (mae, bias) in rows.items()},
        }
        return HeadReport("\n".join(lines) + "\n", data)

    def figure(self, name: str, labels: Labels, outputs: Outputs) -> Figure:
        """Return the predicted against the known numbers, each in a colour of its own."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.6, 4), layout="constrained")
        axis = figure.subplots()
        predicted = self.values(outputs)
        for i, number in enumerate(self.numbers):
            axis.plot(labels[:, i], predicted[:, i], ".", markersize=3, label=number)
        ends = [float(labels.min()), float(labels.max())]
        axis.plot(ends, ends, color="grey", linestyle=":")
        axis.set(title=f"{name}, test", xlabel=f"{self.unit}, as labelled", ylabel=f"{self.unit}, as predicted")
        if self.width > 1:
            axis.legend()
        return figure
