"""What every head kind offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from manyheads.metrics.metric import Metric

if TYPE_CHECKING:
    import keras
    import pandas as pd
    from matplotlib.figure import Figure

# One label a sample, shape (n,), int64; or of several numbers each, shape (n, width), float64.
Labels = npt.NDArray[Any]
Outputs = npt.NDArray[np.float32]

MISSING = np.iinfo(np.int64).min
"""A whole-number label that is not known; of a float label it is NaN."""

# A head's share of the objective: from all targets and all outputs of the model by name, tensors of shape
# (batch, units), to the mean loss, a scalar. So it may depend on several outputs at once.
Term = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]


Scale = Literal["standard", "maximum", "none"]
"""What regression labels are divided by before their loss: see ``LossConfig.scale``."""


class LabelStatistics(NamedTuple):
    """What a head's loss and output layer take from the training labels.

    Attributes:
        center: Regression: labels are standardised as ``(label - center) / spread``.
        spread: See ``center``.
        centers: The same for each number of a label that is several.
        spreads: See ``centers``.
        shares: Classification: the share of each class.
    """

    center: float = 0.0
    spread: float = 1.0
    centers: tuple[float, ...] = ()
    spreads: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()


class HeadReport(NamedTuple):
    """A head's test report as a person reads it and as a program does."""

    text: str
    data: dict[str, Any]


class Head(BaseModel, ABC):
    """One output of the model: a label space, the layer and losses that fit it, and its figures.

    A label may be missing. Such a sample is left out of what this head learns and of all its figures; the methods here
    see to it, and those with an underscore, which a kind brings, get known labels alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str

    @property
    @abstractmethod
    def loss_functions(self) -> tuple[str, ...]:
        """Names of the losses that this kind can be trained with."""

    @property
    def signed_losses(self) -> tuple[str, ...]:
        """Those of them that may fall below 0. A learned weight would grow without bound on them."""
        return ()

    @property
    def output_units(self) -> Mapping[str, int]:
        """Units of each output that a head may have, by what follows its name.

        The output of its name, ``""``, is always there; which of the others there are depends on the loss.
        """
        return {"": max(1, len(self.class_names))}

    def misfit(self, heads: Mapping[str, Head]) -> str | None:
        """Return why this head cannot stand beside the others, or None if it can."""
        del heads
        return None

    @property
    def moves_with_the_image(self) -> bool:
        """Whether labels are places in an image, which turning, moving or mirroring the image would make wrong."""
        return False

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """What its ``figures`` are, in any number of which some may be missing; the main one first."""

    @property
    def main_metric(self) -> str:
        """Name of the metric that the score is made from."""
        return self.metrics[0].name

    def metric(self, name: str) -> Metric:
        """Return what a figure is; one that is not among ``metrics`` is shown and not judged."""
        known = (metric for metric in self.metrics if metric.name == name)
        return next(known, Metric(name=name, judged=False))

    @property
    @abstractmethod
    def stratum_names(self) -> tuple[str, ...]:
        """Names of the values of ``strata``."""

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, none for a label that is no class."""

    def label_columns(self, name: str) -> tuple[str, ...]:
        """Return the columns that hold this head's labels in a table."""
        return (name,)

    def further_columns(self, name: str) -> tuple[str, ...]:
        """Return the columns that a table of predictions may have for this head beside ``label_columns``."""
        del name
        return ()

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

    def labels_of(self, name: str, table: pd.DataFrame) -> Labels:
        """Return the labels of a table's rows, missing ones marked."""
        (column,) = self.label_columns(name)
        return np.asarray(table[column].astype("Int64").fillna(MISSING).to_numpy(np.int64, copy=True), dtype=np.int64)

    def present(self, labels: Labels) -> npt.NDArray[np.bool_]:
        """Return which labels are known, shape (n,)."""
        if np.issubdtype(labels.dtype, np.integer):
            return np.asarray(labels != MISSING)
        return np.asarray(np.isfinite(labels).reshape(len(labels), -1).all(axis=1))

    def strata(self, labels: Labels) -> npt.NDArray[np.int64]:
        """Return the stratum of each label, shape (n,): what a split keeps in proportion.

        Missing labels are a stratum of their own behind those of ``stratum_names``.
        """
        known = self.present(labels)
        strata = np.full(len(labels), len(self.stratum_names), dtype=np.int64)
        strata[known] = self._strata(labels[known])
        return strata

    @abstractmethod
    def _strata(self, labels: Labels) -> npt.NDArray[np.int64]: ...

    def shares(self, labels: Labels) -> npt.NDArray[np.int64]:
        """Return how many known labels are in each stratum, shape (strata,)."""
        strata = self._strata(labels[self.present(labels)])
        return np.bincount(strata, minlength=len(self.stratum_names))

    def describe(self, labels: Labels) -> dict[str, float]:
        """Return how labels are distributed, in a few figures."""
        known = self.present(labels)
        described = self._describe(labels[known]) if known.any() else {}
        return described if known.all() else {**described, "missing": int((~known).sum())}

    @abstractmethod
    def _describe(self, labels: Labels) -> dict[str, float]: ...

    def statistics(self, mode: Scale, labels: Labels) -> LabelStatistics:
        """Return what the head takes from the training labels."""
        return self._statistics(mode, labels[self.present(labels)])

    @abstractmethod
    def _statistics(self, mode: Scale, labels: Labels) -> LabelStatistics: ...

    def output_names(self, name: str, existing: Container[str]) -> list[str]:
        """Return which of a model's outputs are this head's; side by side they are the columns of ``Outputs``."""
        return [f"{name}{suffix}" for suffix in self.output_units if not suffix or f"{name}{suffix}" in existing]

    @abstractmethod
    def outputs(
        self, features: keras.KerasTensor, name: str, loss: str, statistics: LabelStatistics
    ) -> dict[str, keras.KerasTensor]:
        """Return the head's outputs by name, shape (batch, units), float32; ``name`` is in the unit of the label."""

    def targets(self, labels: Labels) -> npt.NDArray[np.float32]:
        """Return what the output is compared with in training, shape (n, units), float32; NaN where it is missing."""
        known = self.present(labels)
        found = self._targets(labels[known])
        targets = np.full((len(labels), found.shape[1]), np.nan, dtype=np.float32)
        targets[known] = found
        return targets

    @abstractmethod
    def _targets(self, labels: Labels) -> npt.NDArray[np.float32]: ...

    @abstractmethod
    def term(self, name: str, function: str, statistics: LabelStatistics) -> Term:
        """Return the loss of that name as this head's term of the objective."""

    @abstractmethod
    def training_metrics(self, name: str) -> list[keras.metrics.Metric]:
        """Return fresh Keras metrics to follow in training, ``<name>_<metric>``; the first is ``main_metric``."""

    def baseline_output(self, labels: Labels) -> Outputs:
        """Return the trivial baseline: the best constant output for training labels, shape (1, units)."""
        return self._baseline_output(labels[self.present(labels)])

    @abstractmethod
    def _baseline_output(self, labels: Labels) -> Outputs: ...

    @abstractmethod
    def values(self, outputs: Outputs) -> npt.NDArray[np.float64] | Labels:
        """Return the predicted label of each row, shape (n,)."""

    def interval(
        self, outputs: Outputs, content: float = 0.9
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
        """Return the ends of the interval that holds the label with probability ``content``, or None without one."""
        del outputs, content
        return None

    def probabilities(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return the probability of each of ``class_names``, shape (n, classes); only of heads that have classes."""
        raise NotImplementedError(f"{type(self).__name__} has no classes")

    @abstractmethod
    def confidence(self, outputs: Outputs) -> npt.NDArray[np.float64] | None:
        """Return how sure each prediction is, shape (n,), or None if the outputs do not say."""

    @property
    @abstractmethod
    def audit_loss(self) -> str:
        """Name of the loss that models are trained with that audit the labels."""

    @abstractmethod
    def disagreement(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return how much outputs contradict known labels, shape (n,); larger is more, on a scale of the head's own."""

    @abstractmethod
    def columns(self, name: str, outputs: Outputs) -> dict[str, Any]:
        """Return the columns that a table of predictions has for this head, each of length n."""

    @abstractmethod
    def names(self, labels: Labels) -> npt.NDArray[Any]:
        """Return how known labels are written for people, shape (n,)."""

    def written(self, name: str, labels: Labels) -> dict[str, Any]:
        """Return the columns of labels in a table of predictions, ``<name>_label``; empty where one is missing."""
        known = self.present(labels)
        if known.all():
            return {f"{name}_label": self.names(labels)}
        column = np.full(len(labels), "", dtype=object)
        column[known] = self.names(labels[known])
        return {f"{name}_label": column}

    def contributions(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return what each sample adds to the sums that ``figures`` are made from, shape (n, k); 0 if it is missing."""
        known = self.present(labels)
        found = self._contributions(labels[known], outputs[known])
        contributions = np.zeros((len(labels), found.shape[1]))
        contributions[known] = found
        return contributions

    @abstractmethod
    def _contributions(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]: ...

    @abstractmethod
    def recorded(self, name: str, table: pd.DataFrame) -> tuple[Labels, npt.NDArray[np.float64]]:
        """Return labels and ``contributions`` from a table of predictions, as evaluate writes it.

        Args:
            name: The head's name, with which its columns start.
            table: With the columns of ``columns`` and ``<name>_label``.
        """

    @abstractmethod
    def figures(self, sums: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        """Return the figures of one or many sets of samples, as ``metrics`` describes them.

        That all figures follow from sums makes them cheap for a thousand resamples of a hundred groups.

        Args:
            sums: Sums of ``contributions``, shape (..., k).

        Returns:
            Each figure by name, shape (...); not a number where the samples say nothing.
        """

    def right(self, contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return which samples with a known label are answered well enough, shape (n,); all by default."""
        return np.ones(len(contributions), dtype=bool)

    @abstractmethod
    def error(self, contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return how far off each sample's answer is, shape (n,)."""

    def measure(self, labels: Labels, outputs: Outputs) -> dict[str, float]:
        """Return the figures of predictions against labels; ``main_metric`` is among them.

        Figures that these labels say nothing of, such as F1 of a class that none of them is, are left out.
        """
        figures = self.figures(self.contributions(labels, outputs).sum(axis=0))
        return {name: float(value) for name, value in figures.items() if np.isfinite(value)}

    @abstractmethod
    def gain(self, value: float, baseline: float) -> float:
        """Return how far ``main_metric`` is from its trivial baseline (0) towards perfection (1)."""

    @abstractmethod
    def report(self, labels: Labels, outputs: Outputs) -> HeadReport:
        """Return the full test report of known labels."""

    @abstractmethod
    def figure(self, name: str, labels: Labels, outputs: Outputs) -> Figure:
        """Return a figure of predictions against known labels."""
