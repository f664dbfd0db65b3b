"""What every head kind offers."""

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
"""One label a sample, shape (n,), int64; or several numbers a sample, shape (n, width), float64."""
Outputs = npt.NDArray[np.float32]
"""All outputs of a head side by side, shape (n, units)."""

MISSING = np.iinfo(np.int64).min
"""A missing whole-number label. A missing float label is NaN."""

HeadLoss = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]
"""From all targets and all outputs of the model by name, tensors of shape (batch, units), to the mean loss, a scalar.

A loss may thereby depend on the outputs of several heads.
"""

Scale = Literal["standard", "maximum", "none"]
"""What regression labels are divided by before their loss; see ``LossConfig.scale``."""


class LabelStatistics(NamedTuple):
    """What a head's loss and output layer take from the training labels.

    Attributes:
        center: Regression: labels are standardized as ``(label - center) / spread``.
        spread: See ``center``.
        centers: The same for each number of a label that is several numbers.
        spreads: See ``centers``.
        shares: Classification: the share of each class.
    """

    center: float = 0.0
    spread: float = 1.0
    centers: tuple[float, ...] = ()
    spreads: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()


class Head(BaseModel, ABC):
    """One output of the model: a label space, the layer and losses that fit it, and its metrics.

    A kind writes ``loss_functions``, ``metrics``, ``read``, ``outputs``, ``loss``, ``values``, ``_contributions`` and
    ``compute_metrics``; everything else has a default that suits one number a sample.

    A label may be missing. Such a sample is left out of what this head learns and of all its metrics. The public
    methods see to that; methods with an underscore, which a kind may override, get known labels alone.

    Attributes:
        kind: Name of the kind, or a reference to a class of an extension.
        name: Name of the head, its key in ``data.heads``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    # The key says it already, so it is not written again beside the settings.
    name: str = Field(default="", exclude=True)

    # Losses and outputs

    @property
    @abstractmethod
    def loss_functions(self) -> tuple[str, ...]:
        """Names of the losses that this kind can be trained with; the first is the default."""

    @property
    def signed_losses(self) -> tuple[str, ...]:
        """Losses that may fall below 0. Their weight cannot be learned: it would grow without bound."""
        return ()

    @property
    def audit_loss(self) -> str:
        """Name of the loss of the models that audit the labels."""
        return self.loss_functions[0]

    @property
    def output_units(self) -> Mapping[str, int]:
        """Units of each output that the head may have, by the suffix of the output's name.

        The output without a suffix always exists. Which others exist depends on the loss.
        """
        return {"": max(1, len(self.class_names))}

    def output_names(self, existing: Container[str]) -> list[str]:
        """Return which of a model's outputs are this head's; side by side they are the columns of ``Outputs``."""
        return [
            f"{self.name}{suffix}" for suffix in self.output_units if not suffix or f"{self.name}{suffix}" in existing
        ]

    @abstractmethod
    def outputs(
        self, features: keras.KerasTensor, loss: str, statistics: LabelStatistics
    ) -> dict[str, keras.KerasTensor]:
        """Return the head's outputs by name, shape (batch, units), float32; the main one is in the label's unit."""

    @abstractmethod
    def loss(self, function: str, statistics: LabelStatistics) -> HeadLoss:
        """Return the loss of that name."""

    def training_metrics(self) -> list[keras.metrics.Metric]:
        """Return fresh Keras metrics to follow in training, named ``<head>_<metric>``."""
        return []

    def conflict_with(self, heads: Mapping[str, Head]) -> str | None:
        """Return why this head cannot stand beside the others, or None if it can."""
        del heads
        return None

    @property
    def is_spatial(self) -> bool:
        """Whether labels are places in an input, which augmentation and mirroring would make wrong."""
        return False

    # Labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; empty where a label is no class."""
        return ()

    @property
    def stratum_names(self) -> tuple[str, ...]:
        """Names of the strata that a split keeps in proportion and that metrics are shown by."""
        return ("all",)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns that hold this head's labels in a table."""
        return (self.name,)

    @property
    def label_dtype(self) -> str:
        """Pandas' name of the type of these columns, one that has missing values."""
        return "Int64"

    @abstractmethod
    def read(self, value: Any) -> tuple[Any, ...]:
        """Return the cells of ``label_columns`` for a label as the raw data says it.

        Args:
            value: A number, a text, or several numbers; None or an empty text if the label is missing.

        Raises:
            ValueError: The label is outside the label space; the message is such as "117 is outside 0-116 years".
        """

    def labels_of(self, table: pd.DataFrame) -> Labels:
        """Return the labels of a table's rows, missing ones marked."""
        return self._labels_in(table, self.label_columns)

    def _labels_in(self, table: pd.DataFrame, columns: tuple[str, ...]) -> Labels:
        (column,) = columns
        return np.asarray(table[column].astype("Int64").fillna(MISSING).to_numpy(np.int64, copy=True), dtype=np.int64)

    def present(self, labels: Labels) -> npt.NDArray[np.bool_]:
        """Return which labels are known, shape (n,)."""
        if np.issubdtype(labels.dtype, np.integer):
            return np.asarray(labels != MISSING)
        return np.asarray(np.isfinite(labels).reshape(len(labels), -1).all(axis=1))

    def strata(self, labels: Labels) -> npt.NDArray[np.int64]:
        """Return the stratum of each label, shape (n,).

        Missing labels are a stratum of their own behind those of ``stratum_names``.
        """
        known = self.present(labels)
        strata = np.full(len(labels), len(self.stratum_names), dtype=np.int64)
        strata[known] = self._strata(labels[known])
        return strata

    def _strata(self, labels: Labels) -> npt.NDArray[np.int64]:
        return np.zeros(len(labels), dtype=np.int64)

    def stratum_counts(self, labels: Labels) -> npt.NDArray[np.int64]:
        """Return how many known labels are in each stratum, shape (strata,)."""
        strata = self._strata(labels[self.present(labels)])
        return np.bincount(strata, minlength=len(self.stratum_names))

    def describe(self, labels: Labels) -> dict[str, float]:
        """Return the distribution of labels in a few numbers."""
        known = self.present(labels)
        described = self._describe(labels[known]) if known.any() else {}
        return described if known.all() else {**described, "missing": int((~known).sum())}

    def _describe(self, labels: Labels) -> dict[str, float]:
        return {"mean": round(float(np.mean(labels)), 4), "median": round(float(np.median(labels)), 4)}

    def statistics(self, scale: Scale, labels: Labels) -> LabelStatistics:
        """Return what the head takes from the training labels."""
        return self._statistics(scale, labels[self.present(labels)])

    def _statistics(self, scale: Scale, labels: Labels) -> LabelStatistics:
        del scale, labels
        return LabelStatistics()

    def targets(self, labels: Labels) -> npt.NDArray[np.float32]:
        """Return what the output is compared with in training, shape (n, units), float32; NaN where it is missing."""
        known = self.present(labels)
        found = self._targets(labels[known])
        targets = np.full((len(labels), found.shape[1]), np.nan, dtype=np.float32)
        targets[known] = found
        return targets

    def _targets(self, labels: Labels) -> npt.NDArray[np.float32]:
        return np.atleast_2d(labels.T).T.astype(np.float32)  # one number a sample is a column

    def texts(self, labels: Labels) -> npt.NDArray[Any]:
        """Return how known labels are written for people, shape (n,)."""
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
        """Return the ends of the interval that holds the label with probability ``content``, or None without one."""
        del outputs, content
        return None

    def probabilities(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return the probability of each of ``class_names``, shape (n, classes); only of heads that have classes."""
        raise NotImplementedError(f"{type(self).__name__} has no classes")

    def confidence(self, outputs: Outputs) -> npt.NDArray[np.float64] | None:
        """Return how sure each prediction is, shape (n,), or None if the outputs do not say."""
        del outputs
        return None

    def disagreement(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return how much outputs contradict known labels, shape (n,); larger is more, on a scale of the head's own."""
        return self.errors(self._contributions(labels, outputs))

    # Tables of predictions

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """The columns that a table of predictions may have for this head beside ``label_columns``."""
        return ()

    def prediction_columns(self, outputs: Outputs) -> dict[str, Any]:
        """Return the columns that a table of predictions has for this head, each of length n."""
        return {self.name: self.values(outputs)}

    def label_cells(self, labels: Labels) -> dict[str, Any]:
        """Return the columns of labels in a table of predictions, ``<column>_label``; empty where one is missing."""
        known = self.present(labels)
        if known.all():
            return {f"{self.name}_label": self.texts(labels)}
        column = np.full(len(labels), "", dtype=object)
        column[known] = self.texts(labels[known])
        return {f"{self.name}_label": column}

    def recorded(self, table: pd.DataFrame) -> tuple[Labels, npt.NDArray[np.float64]]:
        """Return labels and ``contributions`` from a table of predictions, as evaluate writes it.

        Args:
            table: With the columns of ``prediction_columns`` and ``label_cells``.
        """
        labels = self._labels_in(table, tuple(f"{column}_label" for column in self.label_columns))
        return labels, self.contributions(labels, table[list(self.label_columns)].to_numpy(np.float32))

    # Metrics

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """What ``compute_metrics`` returns, of which some may be missing; the first is the main one."""

    @property
    def main_metric(self) -> str:
        """Name of the metric that the score is made from."""
        return self.metrics[0].name

    def metric(self, name: str) -> Metric:
        """Return the metric of a name; one that is not among ``metrics`` is shown and not judged."""
        known = (metric for metric in self.metrics if metric.name == name)
        return next(known, Metric(name=name, judged=False))

    def contributions(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return what each sample adds to the sums that metrics are made from, shape (n, k); 0 if it is missing."""
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

        All metrics follow from sums, so those of a thousand resamples of a hundred groups are cheap.

        Args:
            sums: Sums of ``contributions``, shape (..., k).

        Returns:
            Each metric by name, shape (...); NaN where the samples say nothing.
        """

    def evaluate(self, labels: Labels, outputs: Outputs) -> dict[str, float]:
        """Return the metrics of predictions against labels; ``main_metric`` is among them.

        Metrics that these labels say nothing of, such as F1 of a class that none of them is, are left out.
        """
        metrics = self.compute_metrics(self.contributions(labels, outputs).sum(axis=0))
        return {name: float(value) for name, value in metrics.items() if np.isfinite(value)}

    def errors(self, contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return how far off each sample's prediction is, shape (n,); by default by the main metric of that sample."""
        values = self.compute_metrics(contributions)[self.main_metric]
        return -values if self.metrics[0].greater_is_better else values

    def is_correct(self, contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return which predictions of known labels count as correct, shape (n,); all by default."""
        return np.ones(len(contributions), dtype=bool)

    def skill(self, value: float, baseline: float) -> float:
        """Return the skill score of ``main_metric``: 0 is the baseline, 1 is perfection.

        By default an error is best at 0, and what is better when it is greater is best at 1.
        """
        if self.metrics[0].greater_is_better:
            return (value - baseline) / (1 - baseline) if baseline < 1 else 0.0
        return 1 - value / baseline if baseline else 0.0
