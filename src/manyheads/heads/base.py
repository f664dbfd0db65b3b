"""The interface of all head kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from manyheads.heads.metrics import Metric

if TYPE_CHECKING:
    import keras
    import pandas as pd

Labels = npt.NDArray[Any]
"""Labels of one head: shape (n,), int64, or shape (n, width), float64, where a label consists of several numbers."""
Outputs = npt.NDArray[np.float32]
"""All outputs of a head side by side, shape (n, units), float32."""

MISSING = np.iinfo(np.int64).min
"""Marks a missing label of type int64. A missing float64 label is NaN."""

HeadLoss = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]
"""Maps all targets and all outputs of the model by name, tensors of shape (batch, units), to the mean loss, a scalar.

A loss may depend on the outputs of several heads.
"""

Scale = Literal["standard", "maximum", "none"]
"""How regression labels are scaled before their loss; see ``LossConfig.scale``."""


class LabelStatistics(NamedTuple):
    """Statistics of the training labels, which a head's loss and output layer use.

    Attributes:
        center: Regression: labels are standardized as ``(label - center) / spread``.
        spread: See ``center``.
        centers: ``center`` for each number of a label that consists of several numbers.
        spreads: ``spread`` for each number of such a label.
        shares: Classification: the share of each class.
    """

    center: float = 0.0
    spread: float = 1.0
    centers: tuple[float, ...] = ()
    spreads: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()


class Head(BaseModel, ABC):
    """One output of the model: a label space, the output layer and losses that fit it, and its metrics.

    A kind implements ``loss_functions``, ``metrics``, ``read``, ``outputs``, ``loss``, ``values``, ``_contributions``
    and ``compute_metrics``. Everything else has a default that suits one number per sample.

    A label may be missing. This head then does not learn from the sample, and no metric of the head counts it. The
    public methods select the known labels; methods with an underscore, which a kind may override, get only those.

    Attributes:
        kind: Name of the kind, or a reference to a class of an extension.
        name: Name of the head, its key in ``data.heads``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    # The key in `data.heads` is the name already, so the settings do not repeat it.
    name: str = Field(default="", exclude=True)

    # Losses and outputs

    @property
    @abstractmethod
    def loss_functions(self) -> tuple[str, ...]:
        """Names of the losses that this kind can be trained with; the first is the default."""

    @property
    def signed_losses(self) -> tuple[str, ...]:
        """Losses that may be negative. Their weight cannot be learned because it would grow without bound."""
        return ()

    def audit_loss(self, function: str) -> str:
        """Return the name of the loss that the stage ``audit`` trains this head with, by default that of the training.

        Args:
            function: The loss of the training, one of ``loss_functions``.
        """
        return function

    @property
    def output_units(self) -> Mapping[str, int]:
        """Number of units of each possible output, by the suffix of the output's name.

        The output with the empty suffix always exists. The loss decides which of the others exist.
        """
        return {"": max(1, len(self.class_names))}

    def output_names(self, existing: Container[str]) -> list[str]:
        """Return the names of this head's outputs among those of a model, in the column order of ``Outputs``."""
        return [
            f"{self.name}{suffix}" for suffix in self.output_units if not suffix or f"{self.name}{suffix}" in existing
        ]

    @abstractmethod
    def outputs(
        self, features: keras.KerasTensor, loss: str, statistics: LabelStatistics
    ) -> dict[str, keras.KerasTensor]:
        """Return the head's outputs by name, shape (batch, units), float32; the main output is in the label's unit.

        Args:
            features: The encoder's features for this head, shape (batch, width), float32.
            loss: Name of the loss, one of ``loss_functions``.
            statistics: Statistics of the training labels.
        """

    @abstractmethod
    def loss(self, function: str, statistics: LabelStatistics) -> HeadLoss:
        """Return the loss with the name ``function``, one of ``loss_functions``."""

    def training_metrics(self) -> list[keras.metrics.Metric]:
        """Return new Keras metrics for the training, named ``<head>_<metric>``."""
        return []

    def conflict_with(self, heads: Mapping[str, Head]) -> str | None:
        """Return why this head cannot be combined with the other heads, or None if it can."""
        del heads
        return None

    @property
    def is_spatial(self) -> bool:
        """Whether labels are positions in an input. Augmentation and mirroring would make such labels wrong."""
        return False

    # Labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; empty if labels are not classes."""
        return ()

    @property
    def label_unit(self) -> str:
        """Unit of the labels in the plural, such as ``years``; an empty text if labels have no unit."""
        return ""

    @property
    def stratum_names(self) -> tuple[str, ...]:
        """Names of the strata, which a split keeps in proportion and reports use for groups."""
        return ("all",)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Names of the table columns that hold this head's labels."""
        return (self.name,)

    @property
    def label_dtype(self) -> str:
        """The pandas dtype of ``label_columns``; it allows missing values."""
        return "Int64"

    @abstractmethod
    def read(self, value: Any) -> tuple[Any, ...]:
        """Return the cells of ``label_columns`` for a label of the raw data.

        Args:
            value: A number, a text, or several numbers; None or an empty text if the label is missing.

        Raises:
            ValueError: The label is outside the label space; the message is such as "117 is outside 0-116 years".
        """

    def labels_of(self, table: pd.DataFrame) -> Labels:
        """Return the labels of a table's rows; missing labels are ``MISSING`` or NaN."""
        return self._labels_in(table, self.label_columns)

    def _labels_in(self, table: pd.DataFrame, columns: tuple[str, ...]) -> Labels:
        (column,) = columns
        return np.asarray(table[column].astype("Int64").fillna(MISSING).to_numpy(np.int64, copy=True), dtype=np.int64)

    def present(self, labels: Labels) -> npt.NDArray[np.bool_]:
        """Return which labels are known, shape (n,), bool."""
        if np.issubdtype(labels.dtype, np.integer):
            return np.asarray(labels != MISSING)
        return np.asarray(np.isfinite(labels).reshape(len(labels), -1).all(axis=1))

    def strata(self, labels: Labels) -> npt.NDArray[np.int64]:
        """Return the stratum of each label, shape (n,).

        Missing labels form a stratum of their own, with the number ``len(stratum_names)``.
        """
        known = self.present(labels)
        strata = np.full(len(labels), len(self.stratum_names), dtype=np.int64)
        strata[known] = self._strata(labels[known])
        return strata

    def _strata(self, labels: Labels) -> npt.NDArray[np.int64]:
        return np.zeros(len(labels), dtype=np.int64)

    def stratum_counts(self, labels: Labels) -> npt.NDArray[np.int64]:
        """Return the number of known labels in each stratum, shape (strata,)."""
        strata = self._strata(labels[self.present(labels)])
        return np.bincount(strata, minlength=len(self.stratum_names))

    def describe(self, labels: Labels) -> dict[str, float]:
        """Return a short summary of the labels, such as their mean or class counts, by name."""
        known = self.present(labels)
        described = self._describe(labels[known]) if known.any() else {}
        return described if known.all() else {**described, "missing": int((~known).sum())}

    def _describe(self, labels: Labels) -> dict[str, float]:
        return {"mean": round(float(np.mean(labels)), 4), "median": round(float(np.median(labels)), 4)}

    def statistics(self, scale: Scale, labels: Labels) -> LabelStatistics:
        """Return the statistics of training labels that ``outputs`` and ``loss`` use."""
        return self._statistics(scale, labels[self.present(labels)])

    def _statistics(self, scale: Scale, labels: Labels) -> LabelStatistics:
        del scale, labels
        return LabelStatistics()

    def targets(self, labels: Labels) -> npt.NDArray[np.float32]:
        """Return the training targets of the main output, shape (n, units), float32; NaN where a label is missing."""
        known = self.present(labels)
        found = self._targets(labels[known])
        targets = np.full((len(labels), found.shape[1]), np.nan, dtype=np.float32)
        targets[known] = found
        return targets

    def _targets(self, labels: Labels) -> npt.NDArray[np.float32]:
        return np.atleast_2d(labels.T).T.astype(np.float32)  # shape (n,) becomes (n, 1)

    def texts(self, labels: Labels) -> npt.NDArray[Any]:
        """Return known labels as people read them, shape (n,)."""
        return labels

    # Predictions

    def baseline_output(self, labels: Labels) -> Outputs:
        """Return the baseline: the best constant output for training labels, shape (1, units)."""
        return self._baseline_output(labels[self.present(labels)])

    def _baseline_output(self, labels: Labels) -> Outputs:
        return np.median(self._targets(labels), axis=0, keepdims=True).astype(np.float32)

    @abstractmethod
    def values(self, outputs: Outputs) -> npt.NDArray[np.float64] | Labels:
        """Return the predicted label of each row, shape (n,) or (n, width)."""

    def interval(
        self, outputs: Outputs, content: float = 0.9
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
        """Return the ends of the central prediction interval, each of shape (n,), or None if outputs have none.

        Args:
            outputs: Shape (n, units).
            content: The probability that the interval contains the label.
        """
        del outputs, content
        return None

    def probabilities(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return the probability of each of ``class_names``, shape (n, classes).

        Raises:
            NotImplementedError: The head has no classes.
        """
        raise NotImplementedError(f"{type(self).__name__} has no classes")

    def confidence(self, outputs: Outputs) -> npt.NDArray[np.float64] | None:
        """Return the confidence of each prediction, shape (n,), higher is surer; None if outputs do not tell."""
        del outputs
        return None

    def disagreement(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return how much outputs contradict known labels, shape (n,); larger is more. Each head has its own scale."""
        return self.errors(self._contributions(labels, outputs))

    # Exported models

    def answers(self, outputs: Mapping[str, keras.KerasTensor]) -> dict[str, keras.KerasTensor]:
        """Return what an exported model gives for this head by name, shape (batch, units), float32.

        The answer with the head's name is what ``probabilities`` returns, or ``values`` if the head has no classes. The
        others are outputs of the network.

        Args:
            outputs: The head's outputs of the network by name.
        """
        return dict(outputs)

    @property
    def answer_meanings(self) -> Mapping[str, str]:
        """What each possible answer means, by the suffix of its name; for people who have the exported model alone."""
        value = f"value in {self.label_unit}" if self.label_unit else "value"
        main = "probability of each class in the order of classes; they add up to 1" if self.class_names else value
        return {**dict.fromkeys(self.output_units, "output of the network"), "": main}

    # Tables of predictions

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Columns that a table of predictions may have for this head in addition to ``label_columns``."""
        return ()

    def prediction_columns(self, outputs: Outputs) -> dict[str, Any]:
        """Return this head's columns of a table of predictions by name, each of length n."""
        return {self.name: self.values(outputs)}

    def as_json(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """Return one sample's cells of ``prediction_columns`` as an answer to a program.

        Args:
            cells: The cells by column.

        Returns:
            ``value``, the predicted label; ``unit``, if labels have one; and what else the head tells, by name.
        """
        value = {column: cells[column] for column in self.label_columns if column in cells}
        further = {column: cell for column, cell in cells.items() if column not in value}
        unit = {"unit": self.label_unit} if self.label_unit else {}
        return {"value": value.get(self.name, value), **unit, **further}

    def label_cells(self, labels: Labels) -> dict[str, Any]:
        """Return the label columns of a table of predictions, ``<column>_label``; a missing label is an empty cell."""
        known = self.present(labels)
        if known.all():
            return {f"{self.name}_label": self.texts(labels)}
        column = np.full(len(labels), "", dtype=object)
        column[known] = self.texts(labels[known])
        return {f"{self.name}_label": column}

    def recorded(self, table: pd.DataFrame) -> tuple[Labels, npt.NDArray[np.float64]]:
        """Return labels and ``contributions`` from a table of predictions that evaluate wrote.

        Args:
            table: A table with the columns of ``prediction_columns`` and ``label_cells``.
        """
        labels = self._labels_in(table, tuple(f"{column}_label" for column in self.label_columns))
        return labels, self.contributions(labels, table[list(self.label_columns)].to_numpy(np.float32))

    # Metrics

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """All metrics that ``compute_metrics`` may return; the first is the main metric."""

    @property
    def main_metric(self) -> str:
        """Name of the metric that the skill score uses."""
        return self.metrics[0].name

    @property
    def tracked_metrics(self) -> tuple[str, ...]:
        """Names of the metrics that MLflow gets: those of a report's first table, without metrics of a single class."""
        return tuple(
            metric.name for metric in self.metrics
            if metric.name == self.main_metric or (metric.headline and not metric.of_class)
        )  # fmt: skip

    def metric(self, name: str) -> Metric:
        """Return the metric with a name; an unknown name gives a metric that no comparison judges."""
        known = (metric for metric in self.metrics if metric.name == name)
        return next(known, Metric(name=name, judged=False))

    def contributions(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return what each sample adds to the sums behind the metrics, shape (n, k); 0 where the label is missing."""
        known = self.present(labels)
        found = self._contributions(labels[known], outputs[known])
        contributions = np.zeros((len(labels), found.shape[1]))
        contributions[known] = found
        return contributions

    @abstractmethod
    def _contributions(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]: ...

    @abstractmethod
    def compute_metrics(self, sums: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        """Return the metrics of one or many sets of samples.

        Metrics are functions of sums over samples, so a bootstrap with many resamples and groups is cheap.

        Args:
            sums: Sums of ``contributions``, shape (..., k).

        Returns:
            Each metric by name, shape (...); NaN where a metric is not defined for these samples.
        """

    def evaluate(self, labels: Labels, outputs: Outputs) -> dict[str, float]:
        """Return the metrics of predictions against labels by name; ``main_metric`` is among them.

        A metric that is not defined for these labels is left out, such as F1 of a class that does not occur.
        """
        metrics = self.compute_metrics(self.contributions(labels, outputs).sum(axis=0))
        return {name: float(value) for name, value in metrics.items() if np.isfinite(value)}

    def errors(self, contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the error of each sample, shape (n,); by default from the main metric of the single sample."""
        values = self.compute_metrics(contributions)[self.main_metric]
        return -values if self.metric(self.main_metric).greater_is_better else values

    def is_correct(self, contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return which predictions of known labels count as correct, shape (n,); all by default."""
        return np.ones(len(contributions), dtype=bool)

    def skill(self, value: float, baseline: float) -> float:
        """Return the skill score of ``main_metric``: 0 is the baseline, 1 is perfection.

        By default the best value is 0 for an error, and 1 for a metric that is better when it is greater.
        """
        if self.metric(self.main_metric).greater_is_better:
            return (value - baseline) / (1 - baseline) if baseline < 1 else 0.0
        return 1 - value / baseline if baseline else 0.0
