"""A head for whole numbers within bounds."""

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

# Losses whose second output is a probability for each whole number of the label space.
DISTRIBUTIONS = ("soft_label", "ranked_probability")


class Regression(Head):
    """A whole-number label, predicted as a number, as a Gaussian, or as a distribution over all labels.

    The losses, on standardized labels:

    * ``mse``, ``mae``, ``huber``: losses of one real number.
    * ``gaussian``: a second output, ``<name>_log_variance``, is the log of the variance in squared units of the label;
      the loss is the negative log-likelihood without its constant, ``(s + (y - m)^2 exp(-s)) / 2`` (Nix and Weigend,
      1994; Kendall and Gal, NeurIPS 2017).
    * ``soft_label``: a second output, ``<name>_distribution``, is a softmax over the whole numbers from ``minimum`` to
      ``maximum``, and the value is its mean. The loss is the cross-entropy with a Gaussian around the label, of
      standard deviation ``label_deviation``, plus the absolute error of the mean (DLDL-v2: Gao et al., IJCAI 2018).
    * ``ranked_probability``: the same outputs. The loss is the sum of the squared differences of the cumulative
      distributions (ranked probability score: Epstein, 1969; as a loss: Hou, Yu and Samaras, 2016).

    Attributes:
        unit: Unit of the label in the plural, such as ``years``.
        minimum: Smallest label of the label space.
        maximum: Largest label of the label space.
        bins: Inner edges of the bins that a split is stratified over; a label on an edge belongs to the upper bin.
        tolerance: Largest absolute error of a prediction that counts as correct, in ``unit``.
        label_deviation: Standard deviation of a label's Gaussian under ``soft_label``, in ``unit``.

    Example:
        >>> import numpy as np
        >>> age = Regression(name="age", unit="years", minimum=0, maximum=116, bins=(30, 60))
        >>> age.read("41")
        (41,)
        >>> age.stratum_names
        ('0-29', '30-59', '60-116')
        >>> Regression(name="stars", unit="stars", minimum=1, maximum=5, bins=(3, 4)).stratum_names
        ('1-2', '3', '4-5')
        >>> age.evaluate(np.array([20, 40]), np.array([[23.0], [41.0]], dtype=np.float32))["mae"]
        2.0
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
    def _label_space(self) -> npt.NDArray[np.float32]:
        """All labels from minimum to maximum, shape (maximum - minimum + 1,), float32."""
        return np.arange(self.minimum, self.maximum + 1, dtype=np.float32)

    @property
    def loss_functions(self) -> tuple[str, ...]:
        return ("mae", "mse", "huber", "gaussian", *DISTRIBUTIONS)

    @property
    def signed_losses(self) -> tuple[str, ...]:
        return ("gaussian",)

    @property
    def output_units(self) -> Mapping[str, int]:
        return {"": 1, "_log_variance": 1, "_distribution": len(self._label_space)}

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
    def label_unit(self) -> str:
        return self.unit

    @property
    def extra_columns(self) -> tuple[str, ...]:
        return (f"{self.name}_median", f"{self.name}_low", f"{self.name}_high")

    @property
    def stratum_names(self) -> tuple[str, ...]:
        edges = [self.minimum, *self.bins, self.maximum + 1]
        return tuple(f"{low}-{high - 1}" if high - 1 > low else f"{low}" for low, high in itertools.pairwise(edges))

    def read(self, value: Any) -> tuple[Any, ...]:
        """Return the whole number of a number or a text; see ``Head.read``."""
        if value is None or value == "":
            return (None,)
        try:
            number = float(value)
        except (ValueError, TypeError, OverflowError):
            raise ValueError(f"{value!r} is not a number") from None
        if not number.is_integer():
            raise ValueError(f"{value} is not a whole number")
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
        """Return the value and the second output of the loss, if it has one.

        The standard deviation of ``gaussian`` starts at the spread of the labels. It stays between 1/100 and 100 times
        the spread, so that the likelihood of a single sample stays bounded.
        """
        import keras

        if loss in DISTRIBUTIONS:
            distribution = keras.layers.Dense(
                len(self._label_space), activation="softmax", dtype="float32", name=f"{self.name}_distribution"
            )(features)
            mean = keras.layers.Dense(1, use_bias=False, trainable=False, dtype="float32", name=self.name)
            value = mean(distribution)
            mean.set_weights([self._label_space[:, None]])
            return {self.name: value, f"{self.name}_distribution": distribution}
        standardized = keras.layers.Dense(1, dtype="float32", name=f"{self.name}_standardised")(features)
        rescaling = keras.layers.Rescaling(statistics.spread, statistics.center, dtype="float32", name=self.name)
        outputs = {self.name: rescaling(standardized)}
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
        """Return the loss on standardized labels; targets and outputs are in the label's unit."""
        import keras

        ops, label_space = keras.ops, self._label_space

        def standardized(values: Any) -> Any:
            return (values - statistics.center) / statistics.spread

        def gaussian(targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
            squared_error = ops.square(standardized(targets[self.name]) - standardized(outputs[self.name]))
            log_variance = outputs[f"{self.name}_log_variance"] - 2 * math.log(statistics.spread)
            return ops.mean(log_variance + squared_error * ops.exp(-log_variance)) / 2

        def soft_label(targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
            spread = ops.softmax(-ops.square((label_space - targets[self.name]) / self.label_deviation) / 2)
            crossentropy = keras.losses.categorical_crossentropy(spread, outputs[f"{self.name}_distribution"])
            return ops.mean(crossentropy) + absolute(standardized(targets[self.name]), standardized(outputs[self.name]))

        def ranked_probability(targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
            reached = ops.cast(label_space >= targets[self.name], "float32")
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
        return lambda targets, outputs: loss(standardized(targets[self.name]), standardized(outputs[self.name]))

    def training_metrics(self) -> list[keras.metrics.Metric]:
        import keras

        return [keras.metrics.MeanAbsoluteError(name=f"{self.name}_mae")]

    def values(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        return outputs[:, 0].astype(np.float64)

    def _has_distribution(self, outputs: Outputs) -> bool:
        return bool(outputs.shape[1] == 1 + len(self._label_space))

    def _quantile(self, outputs: Outputs, share: float) -> npt.NDArray[np.float64]:
        """Return the quantile of each distribution, linear within a unit of the label, shape (n,)."""
        cumulated = np.cumsum(outputs[:, 1:].astype(np.float64), axis=1)
        reached = np.argmax(cumulated >= share * cumulated[:, -1:], axis=1)
        rows = np.arange(len(outputs))
        upper = cumulated[rows, reached]
        lower = np.where(reached > 0, cumulated[rows, reached - 1], 0.0)
        within = (share * cumulated[:, -1] - lower) / np.maximum(upper - lower, np.finfo(np.float64).tiny)
        return np.asarray(self.minimum + reached - 0.5 + within, dtype=np.float64)

    def median(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return the median of each distribution, or the value of other outputs, shape (n,)."""
        return self._quantile(outputs, 0.5) if self._has_distribution(outputs) else self.values(outputs)

    def interval(
        self, outputs: Outputs, content: float = 0.9
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
        """Return the ends of the central prediction interval, or None for a single value; see ``Head.interval``."""
        if outputs.shape[1] == 1:
            return None
        if self._has_distribution(outputs):
            return self._quantile(outputs, (1 - content) / 2), self._quantile(outputs, (1 + content) / 2)
        reach = NormalDist().inv_cdf((1 + content) / 2) * np.exp(outputs[:, 1].astype(np.float64) / 2)
        return self.values(outputs) - reach, self.values(outputs) + reach

    def confidence(self, outputs: Outputs) -> npt.NDArray[np.float64] | None:
        """Return the negative width of the central 90 % interval, shape (n,), or None for a single value."""
        interval = self.interval(outputs)
        return None if interval is None else interval[0] - interval[1]

    def disagreement(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return minus the log of the probability within the tolerance of each label, shape (n,).

        An error counts the more, the surer the model is. Outputs without probabilities give the absolute error.
        """
        y = labels.astype(np.float64)[:, None]
        if self._has_distribution(outputs):
            inside = np.abs(self._label_space - y) <= self.tolerance
            probability = outputs[:, 1:].astype(np.float64)
            within = (probability * inside).sum(axis=1) / probability.sum(axis=1)
        elif outputs.shape[1] > 1:
            error, deviation = outputs[:, 0] - y[:, 0], np.exp(outputs[:, 1].astype(np.float64) / 2)
            # Of the nearer tail, because probabilities near 1 cannot be told apart.
            nearer, farther = ((np.abs(error) - sign * (self.tolerance + 0.5)) / deviation for sign in (1, -1))
            beyond = np.vectorize(math.erfc, otypes=[np.float64])
            within = (beyond(nearer / math.sqrt(2)) - beyond(farther / math.sqrt(2))) / 2
        else:
            return super().disagreement(labels, outputs)
        return np.asarray(-np.log(np.maximum(within, np.finfo(np.float32).tiny)), dtype=np.float64)

    def prediction_columns(self, outputs: Outputs) -> dict[str, Any]:
        """Return the value, the median of a distribution, and the ends of the central 90 % interval if there is one."""
        columns = {self.name: np.round(self.values(outputs), 2)}
        if self._has_distribution(outputs):
            columns[f"{self.name}_median"] = np.round(self.median(outputs), 2)
        if (interval := self.interval(outputs)) is not None:
            columns |= {f"{self.name}_low": np.round(interval[0], 2), f"{self.name}_high": np.round(interval[1], 2)}
        return columns

    @property
    def answer_meanings(self) -> Mapping[str, str]:
        reach = NormalDist().inv_cdf(0.95)
        return {
            "": f"value in {self.unit}",
            "_log_variance": f"natural logarithm of the variance; the central 90 % interval is {self.name} plus and "
            f"minus {reach:.6f} * exp({self.name}_log_variance / 2)",
            "_distribution": f"probability of each whole number from {self.minimum} to {self.maximum}, whose mean is "
            f"{self.name}; a number k stands for k - 0.5 to k + 0.5, and the quantiles 0.05, 0.5 and 0.95, linear "
            "within a number, are the ends of the central 90 % interval and the median",
        }

    def as_json(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value, and ``median``, ``low`` and ``high`` if there are such; see ``Head.as_json``."""
        names = dict(zip(self.extra_columns, ("median", "low", "high"), strict=True))
        return {names.get(key, key): value for key, value in super().as_json(cells).items()}

    def texts(self, labels: Labels) -> npt.NDArray[Any]:
        return np.rint(labels).astype(np.int64)

    def _contributions(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return errors, labels and squares, shape (n, 7); with an interval its coverage and width, (n, 9)."""
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
            f"{self.name}_{suffix}": table[f"{self.name}_{suffix}"].to_numpy(np.float64)
            for suffix in ("median", "low", "high")
            if f"{self.name}_{suffix}" in table
        }
        values = table[self.name].to_numpy(np.float64)
        ends = (found.get(f"{self.name}_low"), found.get(f"{self.name}_high"))
        interval = None if ends[0] is None or ends[1] is None else (ends[0], ends[1])
        contributions = self._errors(labels, values, found.get(f"{self.name}_median", values), interval)
        return labels, np.where(self.present(labels)[:, None], contributions, 0.0)

    def compute_metrics(self, sums: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        """Return the errors of predictions against labels; see ``Head.compute_metrics``.

        For a distribution, ``mae`` and ``within_<tolerance>`` use its median; ``rmse``, ``r2`` and ``bias`` use its
        mean. Each is the prediction that optimizes the metric. ``coverage_90`` is the share of labels inside their
        central 90 % interval, and ``interval_width`` is its mean width in ``unit``. ``r2`` is NaN if all labels are
        equal.
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
        """Return which predictions are within the tolerance, shape (n,)."""
        return np.asarray(contributions[:, 2] > 0)

    def errors(self, contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the absolute error, shape (n,)."""
        return contributions[:, 1]
