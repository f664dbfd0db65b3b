"""A whole-number label on a line."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveFloat, model_validator

from manyheads.heads.base import Head, HeadLoss, Labels, LabelStatistics, Outputs, Scale
from manyheads.heads.metrics import Metric

if TYPE_CHECKING:
    import keras
    import pandas as pd

# Losses whose output is a probability for each whole number of the label space.
DISTRIBUTIONS = ("soft_label", "ranked_probability")


class Regression(Head):
    """A whole-number label on a line, predicted as a number, as a Gaussian, or as a distribution over all labels.

    The losses, on standardised labels:

    * ``mse``, ``mae``, ``huber``: of one real number.
    * ``gaussian``: a second output, ``<name>_log_variance``, is the log of the variance in squared units of the label;
      the loss is the negative log-likelihood less its constant, ``(s + (y - m)^2 exp(-s)) / 2`` (Nix and Weigend,
      1994; Kendall and Gal, NeurIPS 2017).
    * ``soft_label``: a second output, ``<name>_distribution``, is a softmax over the whole numbers from ``minimum`` to
      ``maximum``, and the value is its mean. The loss is the cross-entropy with the label spread to a Gaussian of
      ``label_deviation``, and the absolute error of the mean (DLDL-v2: Gao et al., IJCAI 2018).
    * ``ranked_probability``: the same outputs, seen as ordered: the squared difference of cumulative distributions,
      summed (the ranked probability score: Epstein, 1969; as a loss, Hou, Yu and Samaras, 2016).

    Attributes:
        unit: What the label counts, in the plural.
        minimum: Smallest label of the label space.
        maximum: Largest label of the label space.
        bins: Inner edges of the bins that a split is stratified over; a label on an edge belongs to the upper bin.
        tolerance: Half-width of the band whose share of predictions is reported.
        label_deviation: Standard deviation that ``soft_label`` gives a label, in its unit.
    """

    kind: Literal["regression"] = "regression"
    unit: str
    minimum: int
    maximum: int
    bins: tuple[int, ...] = ()
    tolerance: int = Field(default=5, gt=0)
    label_deviation: PositiveFloat = 2.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        edges = (self.minimum, *self.bins, self.maximum)
        if list(edges) != sorted(set(edges)):
            raise ValueError(f"minimum, bins and maximum must increase, got {list(edges)}")
        return self

    @property
    def _line(self) -> npt.NDArray[np.float32]:
        """The label space, shape (maximum - minimum + 1,)."""
        return np.arange(self.minimum, self.maximum + 1, dtype=np.float32)

    @property
    def loss_functions(self) -> tuple[str, ...]:
        return ("mae", "mse", "huber", "gaussian", *DISTRIBUTIONS)

    @property
    def signed_losses(self) -> tuple[str, ...]:
        return ("gaussian",)

    @property
    def output_units(self) -> Mapping[str, int]:
        return {"": 1, "_log_variance": 1, "_distribution": len(self._line)}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(name="mae", greater_is_better=False),
            Metric(name="rmse", greater_is_better=False, headline=False),
            Metric(name="r2"),
            Metric(name="bias", judged=False, headline=False, by_group=True),
            Metric(name=f"within_{self.tolerance}", label=f"share within {self.tolerance}"),
            Metric(name="coverage_90", judged=False),
            Metric(name="interval_width", greater_is_better=False, headline=False),
        )

    @property
    def extra_columns(self) -> tuple[str, ...]:
        return (f"{self.name}_median", f"{self.name}_low", f"{self.name}_high")

    @property
    def stratum_names(self) -> tuple[str, ...]:
        edges = [self.minimum, *self.bins, self.maximum + 1]
        return tuple(f"{low}-{high - 1}" for low, high in itertools.pairwise(edges))

    def read(self, value: Any) -> tuple[Any, ...]:
        """Return the whole number that a number or a text is; see ``Head.read``."""
        if value is None or value == "":
            return (None,)
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"{value!r} is no number") from None
        if not number.is_integer():
            raise ValueError(f"{value} is no whole number")
        if not self.minimum <= number <= self.maximum:
            raise ValueError(f"{int(number)} is outside {self.minimum}-{self.maximum} {self.unit}")
        return (int(number),)

    def _strata(self, labels: Labels) -> npt.NDArray[np.int64]:
        return np.digitize(labels, self.bins).astype(np.int64)

    def _describe(self, labels: Labels) -> dict[str, float]:
        return {"mean": round(float(np.mean(labels)), 4), "median": float(np.median(labels))}

    def _statistics(self, scale: Scale, labels: Labels) -> LabelStatistics:
        if scale == "maximum":
            return LabelStatistics(0.0, float(self.maximum))
        if scale == "none":
            return LabelStatistics()
        return LabelStatistics(float(np.mean(labels)), float(np.std(labels)) or 1.0)

    def outputs(
        self, features: keras.KerasTensor, loss: str, statistics: LabelStatistics
    ) -> dict[str, keras.KerasTensor]:
        """Return the value, and what the loss needs beside it.

        The standard deviation of ``gaussian`` starts at the spread of the labels and stays between a hundredth of it
        and a hundredfold, so that the likelihood of one sample cannot run away.
        """
        import keras

        if loss in DISTRIBUTIONS:
            distribution = keras.layers.Dense(
                len(self._line), activation="softmax", dtype="float32", name=f"{self.name}_distribution"
            )(features)
            mean = keras.layers.Dense(1, use_bias=False, trainable=False, dtype="float32", name=self.name)
            value = mean(distribution)
            mean.set_weights([self._line[:, None]])
            return {self.name: value, f"{self.name}_distribution": distribution}
        standardised = keras.layers.Dense(1, dtype="float32", name=f"{self.name}_standardised")(features)
        rescaling = keras.layers.Rescaling(statistics.spread, statistics.center, dtype="float32", name=self.name)
        outputs = {self.name: rescaling(standardised)}
        if loss == "gaussian":
            bounded = keras.layers.Dense(
                1, activation="tanh", kernel_initializer="zeros", dtype="float32", name=f"{self.name}_bounded"
            )(features)
            within = keras.layers.Rescaling(
                2 * math.log(100), 2 * math.log(statistics.spread), dtype="float32", name=f"{self.name}_log_variance"
            )
            outputs[f"{self.name}_log_variance"] = within(bounded)
        return outputs

    def loss(self, function: str, statistics: LabelStatistics) -> HeadLoss:
        """Return the loss on standardised labels, while targets and outputs keep the label's unit."""
        import keras

        ops, line = keras.ops, self._line

        def standardised(values: Any) -> Any:
            return (values - statistics.center) / statistics.spread

        def gaussian(targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
            squared_error = ops.square(standardised(targets[self.name]) - standardised(outputs[self.name]))
            log_variance = outputs[f"{self.name}_log_variance"] - 2 * math.log(statistics.spread)
            return ops.mean(log_variance + squared_error * ops.exp(-log_variance)) / 2

        def soft_label(targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
            spread = ops.softmax(-ops.square((line - targets[self.name]) / self.label_deviation) / 2)
            crossentropy = keras.losses.categorical_crossentropy(spread, outputs[f"{self.name}_distribution"])
            return ops.mean(crossentropy) + absolute(standardised(targets[self.name]), standardised(outputs[self.name]))

        def ranked_probability(targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
            reached = ops.cast(line >= targets[self.name], "float32")
            difference = ops.cumsum(outputs[f"{self.name}_distribution"], axis=1) - reached
            return ops.mean(ops.sum(ops.square(difference), axis=1)) / statistics.spread

        absolute = keras.losses.MeanAbsoluteError()
        special: dict[str, HeadLoss] = {
            "gaussian": gaussian,
            "soft_label": soft_label,
            "ranked_probability": ranked_probability,
        }
        if function in special:
            return special[function]
        losses: dict[str, keras.losses.Loss] = {
            "mse": keras.losses.MeanSquaredError(),
            "mae": absolute,
            "huber": keras.losses.Huber(),
        }
        loss = losses[function]
        return lambda targets, outputs: loss(standardised(targets[self.name]), standardised(outputs[self.name]))

    def training_metrics(self) -> list[keras.metrics.Metric]:
        import keras

        return [keras.metrics.MeanAbsoluteError(name=f"{self.name}_mae")]

    def values(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        return outputs[:, 0].astype(np.float64)

    def _has_distribution(self, outputs: Outputs) -> bool:
        return bool(outputs.shape[1] == 1 + len(self._line))

    def _quantile(self, outputs: Outputs, share: float) -> npt.NDArray[np.float64]:
        """Return where the cumulative distribution reaches ``share``, linear within a label's unit, shape (n,)."""
        cumulated = np.cumsum(outputs[:, 1:].astype(np.float64), axis=1)
        reached = np.argmax(cumulated >= share * cumulated[:, -1:], axis=1)
        rows = np.arange(len(outputs))
        upper = cumulated[rows, reached]
        lower = np.where(reached > 0, cumulated[rows, reached - 1], 0.0)
        within = (share * cumulated[:, -1] - lower) / np.maximum(upper - lower, np.finfo(np.float64).tiny)
        return np.asarray(self.minimum + reached - 0.5 + within, dtype=np.float64)

    def median(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return what is expected to have the least absolute error, shape (n,): the median of a distribution."""
        return self._quantile(outputs, 0.5) if self._has_distribution(outputs) else self.values(outputs)

    def interval(
        self, outputs: Outputs, content: float = 0.9
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
        """Return the ends of the central interval, each of shape (n,), or None for a value alone.

        Args:
            outputs: Shape (n, units).
            content: The probability that it holds.
        """
        if outputs.shape[1] == 1:
            return None
        if self._has_distribution(outputs):
            return self._quantile(outputs, (1 - content) / 2), self._quantile(outputs, (1 + content) / 2)
        reach = NormalDist().inv_cdf((1 + content) / 2) * np.exp(outputs[:, 1].astype(np.float64) / 2)
        return self.values(outputs) - reach, self.values(outputs) + reach

    def confidence(self, outputs: Outputs) -> npt.NDArray[np.float64] | None:
        """Return the width of the central 90 % interval, negative, shape (n,)."""
        interval = self.interval(outputs)
        return None if interval is None else interval[0] - interval[1]

    def prediction_columns(self, outputs: Outputs) -> dict[str, Any]:
        """Return the value; of a distribution also the median; with them the ends of the central 90 % interval."""
        columns = {self.name: np.round(self.values(outputs), 2)}
        if self._has_distribution(outputs):
            columns[f"{self.name}_median"] = np.round(self.median(outputs), 2)
        if (interval := self.interval(outputs)) is not None:
            columns |= {f"{self.name}_low": np.round(interval[0], 2), f"{self.name}_high": np.round(interval[1], 2)}
        return columns

    def texts(self, labels: Labels) -> npt.NDArray[Any]:
        return np.rint(labels).astype(np.int64)

    def _contributions(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return errors and labels and their squares, shape (n, 7), and of an interval what it holds, shape (n, 9)."""
        return self._errors(labels, self.values(outputs), self.median(outputs), self.interval(outputs))

    def _errors(
        self,
        labels: Labels,
        values: npt.NDArray[np.float64],
        medians: npt.NDArray[np.float64],
        interval: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None,
    ) -> npt.NDArray[np.float64]:
        y = labels.astype(np.float64)
        error, absolute = values - y, np.abs(medians - y)
        columns = [np.ones(len(y)), absolute, absolute <= self.tolerance, error, error**2, y, y**2]
        if interval is not None:
            low, high = interval
            columns += [(low <= y) & (y <= high), high - low]
        return np.stack(columns, axis=1, dtype=np.float64)

    def recorded(self, table: pd.DataFrame) -> tuple[Labels, npt.NDArray[np.float64]]:
        labels = self._labels_in(table, (f"{self.name}_label",))
        found = {
            f"{self.name}_{part}": table[f"{self.name}_{part}"].to_numpy(np.float64)
            for part in ("median", "low", "high")
            if f"{self.name}_{part}" in table
        }
        values = table[self.name].to_numpy(np.float64)
        ends = (found.get(f"{self.name}_low"), found.get(f"{self.name}_high"))
        interval = None if ends[0] is None or ends[1] is None else (ends[0], ends[1])
        contributions = self._errors(labels, values, found.get(f"{self.name}_median", values), interval)
        return labels, np.where(self.present(labels)[:, None], contributions, 0.0)

    def compute_metrics(self, sums: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        """Return the errors of predictions against labels.

        Of a distribution, the absolute errors (``mae``, ``within_<tolerance>``) are those of its median, the squared
        ones (``rmse``, ``r2``) and ``bias`` those of its mean: each is what its figure rewards. ``coverage_90`` is the
        share of labels inside their central 90 % interval, ``interval_width`` its mean width. ``r2`` of labels that
        are all alike is not a number.
        """
        n, absolute, within, error, squared, y, y_squared, *interval = np.moveaxis(sums, -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            total = y_squared - y**2 / n
            metrics = {
                "mae": absolute / n,
                "rmse": np.sqrt(squared / n),
                "r2": np.where(total > 1e-9 * y_squared, 1 - squared / total, np.nan),
                "bias": error / n,
                f"within_{self.tolerance}": within / n,
            }
            if interval:
                metrics |= {"coverage_90": interval[0] / n, "interval_width": interval[1] / n}
        return metrics

    def is_correct(self, contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return which are within the tolerance."""
        return np.asarray(contributions[:, 2] > 0)

    def errors(self, contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the absolute error."""
        return contributions[:, 1]
