"""What every head kind offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import keras
    import pandas as pd
    from matplotlib.figure import Figure

Labels = npt.NDArray[np.int64]
Outputs = npt.NDArray[np.float32]

# A head's share of the objective: from all targets and all outputs of the model by name, tensors of shape
# (batch, units), to the mean loss, a scalar. So it may depend on several outputs at once.
Term = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]


class LabelStatistics(NamedTuple):
    """What a head's loss and output layer take from the training labels.

    Attributes:
        center: Regression: labels are standardised as ``(label - center) / spread``.
        spread: See ``center``.
        shares: Classification: the share of each class.
    """

    center: float = 0.0
    spread: float = 1.0
    shares: tuple[float, ...] = ()


class HeadReport(NamedTuple):
    """A head's test report as a person reads it and as a program does."""

    text: str
    data: dict[str, Any]


class Head(BaseModel, ABC):
    """One output of the model: a label space, the layer and losses that fit it, and its figures."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    @abstractmethod
    def loss_functions(self) -> tuple[str, ...]:
        """Names of the losses that this kind can be trained with."""

    @property
    def signed_losses(self) -> tuple[str, ...]:
        """Those of them that may fall below 0. A learned weight would grow without bound on them."""
        return ()

    @property
    def further_outputs(self) -> tuple[str, ...]:
        """Suffixes of the outputs that a head may have beside the one of its name; which it has depends on the loss."""
        return ()

    @property
    @abstractmethod
    def main_metric(self) -> str:
        """Name of the metric that the score is made from."""

    @property
    @abstractmethod
    def stratum_names(self) -> tuple[str, ...]:
        """Names of the values of ``strata``."""

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, none for a label that is no class."""

    @abstractmethod
    def refuse(self, label: int) -> str | None:
        """Return why ``label`` is outside the label space, or None if it is inside."""

    @abstractmethod
    def strata(self, labels: Labels) -> npt.NDArray[np.int64]:
        """Return the stratum of each label, shape (n,): what a split keeps in proportion."""

    @abstractmethod
    def describe(self, labels: Labels) -> dict[str, float]:
        """Return how labels are distributed, in a few figures."""

    @abstractmethod
    def statistics(self, mode: Literal["standard", "maximum"], labels: Labels) -> LabelStatistics:
        """Return what the head takes from the training labels, shape (n,)."""

    def output_names(self, name: str, existing: Container[str]) -> list[str]:
        """Return which of a model's outputs are this head's; side by side they are the columns of ``Outputs``."""
        further = (f"{name}_{suffix}" for suffix in self.further_outputs)
        return [name, *(output for output in further if output in existing)]

    @abstractmethod
    def outputs(
        self, features: keras.KerasTensor, name: str, loss: str, statistics: LabelStatistics
    ) -> dict[str, keras.KerasTensor]:
        """Return the head's outputs by name, shape (batch, units), float32; ``name`` is in the unit of the label."""

    @abstractmethod
    def targets(self, labels: Labels) -> npt.NDArray[np.float32]:
        """Return what the output is compared with in training, shape (n, units), float32."""

    @abstractmethod
    def taught(self, outputs: Outputs, function: str, statistics: LabelStatistics) -> npt.NDArray[np.float32]:
        """Return the targets that lead another network with the same loss to ``outputs``, shape (n, units), float32."""

    @abstractmethod
    def term(self, name: str, function: str, statistics: LabelStatistics) -> Term:
        """Return the loss of that name as this head's term of the objective."""

    @abstractmethod
    def training_metrics(self, name: str) -> list[keras.metrics.Metric]:
        """Return fresh Keras metrics to follow in training, ``<name>_<metric>``; the first is ``main_metric``."""

    @abstractmethod
    def constant(self, labels: Labels) -> Outputs:
        """Return the trivial baseline: the best constant output for training labels, shape (1, units)."""

    @abstractmethod
    def values(self, outputs: Outputs) -> npt.NDArray[np.float64] | Labels:
        """Return the predicted label of each row, shape (n,)."""

    def interval(
        self, outputs: Outputs, content: float = 0.9
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
        """Return the ends of the interval that holds the label with probability ``content``, or None without one."""
        del outputs, content
        return None

    @abstractmethod
    def confidence(self, outputs: Outputs) -> npt.NDArray[np.float64] | None:
        """Return how sure each prediction is, shape (n,), or None if the outputs do not say."""

    @property
    @abstractmethod
    def audit_loss(self) -> str:
        """Name of the loss that models are trained with that audit the labels."""

    @abstractmethod
    def disagreement(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return how much outputs contradict the labels, shape (n,); larger is more, on a scale of the head's own."""

    @abstractmethod
    def columns(self, name: str, outputs: Outputs) -> dict[str, Any]:
        """Return the columns that a table of predictions has for this head, each of length n."""

    @abstractmethod
    def names(self, labels: Labels) -> npt.NDArray[Any]:
        """Return how labels are written in a table of predictions, shape (n,)."""

    @abstractmethod
    def contributions(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return what each sample adds to the sums that ``figures`` are made from, shape (n, k)."""

    @abstractmethod
    def recorded(self, name: str, table: pd.DataFrame) -> tuple[Labels, npt.NDArray[np.float64]]:
        """Return labels and ``contributions`` from a table of predictions, as evaluate writes it.

        Args:
            name: The head's name, with which its columns start.
            table: With the columns of ``columns`` and ``<name>_label``.
        """

    @abstractmethod
    def figures(self, sums: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        """Return the figures of one or many sets of samples; ``main_metric`` is among them.

        That all figures follow from sums makes them cheap for a thousand resamples of a hundred groups.

        Args:
            sums: Sums of ``contributions``, shape (..., k).

        Returns:
            Each figure by name, shape (...); not a number where the samples say nothing.
        """

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
        """Return the full test report."""

    @abstractmethod
    def figure(self, name: str, labels: Labels, outputs: Outputs) -> Figure:
        """Return a figure of predictions against labels."""
