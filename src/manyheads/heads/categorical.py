"""A head for two or more classes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from manyheads.heads.base import MISSING, Head, HeadLoss, Labels, LabelStatistics, Outputs, Scale
from manyheads.heads.metrics import Metric

if TYPE_CHECKING:
    import keras
    import pandas as pd

SMALLEST = 1e-12
"""Lower bound of a probability, so that its logarithm is finite."""

PRIOR_STRENGTH = 0.5
"""Factor of the log priors in ``logit_adjusted``: 0 is the plain cross-entropy, 1 aims at the balanced accuracy."""


class Categorical(Head):
    """A label of two or more classes, predicted as a probability for each class.

    The losses are ``categorical_crossentropy`` of a softmax, ``binary_crossentropy`` of a sigmoid for each class, and
    ``logit_adjusted``. The last one adds ``PRIOR_STRENGTH`` times the log of each class's share to its logit during
    training only, so that rare classes are predicted more often (Menon et al., ICLR 2021).

    Attributes:
        classes: Names of the classes; label i, counted from 0, means the i-th class.

    Example:
        >>> import numpy as np
        >>> colour = Categorical(name="colour", classes=("red", "blue"))
        >>> colour.read("blue")
        (1,)
        >>> outputs = np.array([[0.9, 0.1], [0.6, 0.4]], dtype=np.float32)
        >>> colour.evaluate(np.array([0, 1]), outputs)["accuracy"]
        0.5
    """

    kind: Literal["categorical"] = "categorical"
    classes: tuple[str, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(map(_composed, self.classes))) != len(self.classes):
            raise ValueError(f"classes must differ, and not in Unicode form alone, got {list(self.classes)}")
        return self

    @property
    def loss_functions(self) -> tuple[str, ...]:
        return ("categorical_crossentropy", "binary_crossentropy", "logit_adjusted")

    def audit_loss(self, function: str) -> str:
        """Return ``function``, but without the adjustment of logits, which costs accuracy for the scarce classes."""
        return "categorical_crossentropy" if function == "logit_adjusted" else function

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(name="accuracy"),
            Metric(name="macro_f1"),
            Metric(name="balanced_accuracy", headline=False),
            *(
                Metric(name=f"f1_{each}", label=f"F1 of {label}", of_class=True)
                for each, label in zip(self._identifiers, self.classes, strict=True)
            ),
        )

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Names of the probability columns, one for each class in order."""
        return tuple(f"{self.name}_{each}" for each in self._identifiers)

    @property
    def _identifiers(self) -> tuple[str, ...]:
        """Names of the classes in names of columns and metrics; those that would be equal are numbered.

        Both ``<=50K`` and ``>50K`` are ``_50K``, and each name in another script than the Latin is ``_``.
        """
        plain = [re.sub("[^0-9A-Za-z]+", "_", label) for label in self.classes]
        return tuple(each if plain.count(each) == 1 else f"{each.rstrip('_')}_{i}" for i, each in enumerate(plain))

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.classes

    @property
    def stratum_names(self) -> tuple[str, ...]:
        return self.classes

    def read(self, value: Any) -> tuple[Any, ...]:
        """Return the index of a class from its name or its index; see ``Head.read``."""
        if value is None or value == "":
            return (None,)
        if isinstance(value, str):
            if value in self.classes:
                return (self.classes.index(value),)
            # Systems write the same name in different forms of Unicode.
            names = [_composed(name) for name in self.classes]
            if _composed(value) in names:
                return (names.index(_composed(value)),)
        known = f"0-{len(self.classes) - 1} ({', '.join(self.classes[:8])}{', ...' if len(self.classes) > 8 else ''})"
        try:
            label = int(value)
        except (ValueError, TypeError, OverflowError):
            raise ValueError(f"{value!r} is none of {known}") from None
        if not 0 <= label < len(self.classes):
            raise ValueError(f"{label} is none of {known}")
        return (label,)

    def _strata(self, labels: Labels) -> npt.NDArray[np.int64]:
        return labels.astype(np.int64)

    def _describe(self, labels: Labels) -> dict[str, float]:
        return {name: int((labels == label).sum()) for label, name in enumerate(self.classes)}

    def _statistics(self, scale: Scale, labels: Labels) -> LabelStatistics:
        del scale
        counts = np.bincount(labels, minlength=len(self.classes))
        return LabelStatistics(shares=tuple((counts / max(len(labels), 1)).tolist()))

    def outputs(
        self, features: keras.KerasTensor, loss: str, statistics: LabelStatistics
    ) -> dict[str, keras.KerasTensor]:
        """Return one unit per class: sigmoids for ``binary_crossentropy``, a softmax otherwise."""
        import keras

        del statistics
        activation = "sigmoid" if loss == "binary_crossentropy" else "softmax"
        units = len(self.classes)
        return {self.name: keras.layers.Dense(units, activation=activation, dtype="float32", name=self.name)(features)}

    def _targets(self, labels: Labels) -> npt.NDArray[np.float32]:
        return np.eye(len(self.classes), dtype=np.float32)[labels]

    def loss(self, function: str, statistics: LabelStatistics) -> HeadLoss:
        import keras

        def logit_adjusted(targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
            # The log of a softmax equals its logits up to a constant, which the softmax of the loss cancels.
            logits = keras.ops.log(outputs[self.name] + keras.config.epsilon())
            logits += PRIOR_STRENGTH * np.log(_shares(statistics))
            return keras.ops.mean(keras.losses.categorical_crossentropy(targets[self.name], logits, from_logits=True))

        if function == "logit_adjusted":
            return logit_adjusted
        losses: dict[str, keras.losses.Loss] = {
            "categorical_crossentropy": keras.losses.CategoricalCrossentropy(),
            "binary_crossentropy": keras.losses.BinaryCrossentropy(),
        }
        loss = losses[function]
        return lambda targets, outputs: loss(targets[self.name], outputs[self.name])

    def training_metrics(self) -> list[keras.metrics.Metric]:
        import keras

        return [keras.metrics.CategoricalAccuracy(name=f"{self.name}_accuracy")]

    def _baseline_output(self, labels: Labels) -> Outputs:
        counts = np.bincount(labels, minlength=len(self.classes))
        return np.eye(len(self.classes), dtype=np.float32)[[counts.argmax()]]

    def probabilities(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return probabilities that add up to 1, shape (n, classes); sigmoids are divided by their sum."""
        return np.asarray(_normalized(outputs.astype(np.float64), np), dtype=np.float64)

    def answers(self, outputs: Mapping[str, keras.KerasTensor]) -> dict[str, keras.KerasTensor]:
        import keras

        return {self.name: _normalized(outputs[self.name], keras.ops)}

    def values(self, outputs: Outputs) -> Labels:
        return np.asarray(self.probabilities(outputs).argmax(axis=1), dtype=np.int64)

    def confidence(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return the largest probability, shape (n,)."""
        return np.asarray(self.probabilities(outputs).max(axis=1), dtype=np.float64)

    def disagreement(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return 1 minus the labelled class's probability (Northcutt et al., 2021: self-confidence), shape (n,)."""
        return np.asarray(1 - self.probabilities(outputs)[np.arange(len(labels)), labels], dtype=np.float64)

    def prediction_columns(self, outputs: Outputs) -> dict[str, Any]:
        """Return the name of the predicted class and the probability of each class."""
        probabilities = self.probabilities(outputs)
        shown = {column: np.round(probabilities[:, i], 4) for i, column in enumerate(self.extra_columns)}
        return {self.name: np.array(self.classes)[self.values(outputs)], **shown}

    def as_json(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """Return the predicted class, its probability and that of each class; see ``Head.as_json``."""
        probabilities = {name: cells[column] for name, column in zip(self.classes, self.extra_columns, strict=True)}
        value = cells[self.name]
        return {"value": value, "probability": probabilities[value], "probabilities": probabilities}

    def texts(self, labels: Labels) -> npt.NDArray[Any]:
        return np.array(self.classes)[labels]

    def _contributions(self, labels: Labels, outputs: Outputs) -> npt.NDArray[np.float64]:
        """Return each sample's cell of the confusion matrix (label, prediction), one-hot, shape (n, classes²)."""
        n = len(self.classes)
        return np.asarray(np.eye(n * n)[labels * n + self.values(outputs)], dtype=np.float64)

    def recorded(self, table: pd.DataFrame) -> tuple[Labels, npt.NDArray[np.float64]]:
        labels, values = (self._numbers(table[column]) for column in (f"{self.name}_label", self.name))
        contributions = np.zeros((len(labels), len(self.classes) ** 2))
        known = self.present(labels)
        contributions[known, labels[known] * len(self.classes) + values[known]] = 1.0
        return labels, contributions

    def _numbers(self, names: pd.Series[Any]) -> Labels:
        if unknown := sorted(set(names.dropna().astype(str)) - set(self.classes)):
            raise ValueError(f"{unknown[0]!r} is none of {', '.join(self.classes)}")
        numbers = {label: i for i, label in enumerate(self.classes)}
        return np.asarray(names.map(numbers).fillna(MISSING), dtype=np.int64)

    def compute_metrics(self, sums: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        """Return the accuracy, each class's F1, and the means of F1 and recall over the classes in the labels."""
        n = len(self.classes)
        confusion = sums.reshape(*sums.shape[:-1], n, n)
        correct = np.diagonal(confusion, axis1=-2, axis2=-1)
        labelled, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
        present = labelled > 0
        with np.errstate(invalid="ignore"):
            n_present = present.sum(axis=-1)
            f1 = np.where(present, 2 * correct / (labelled + predicted), 0.0)
            recall = np.where(present, correct / labelled, 0.0)
            return {
                "accuracy": correct.sum(axis=-1) / labelled.sum(axis=-1),
                "macro_f1": f1.sum(axis=-1) / n_present,
                "balanced_accuracy": recall.sum(axis=-1) / n_present,
                **{
                    f"f1_{each}": np.where(present[..., i], f1[..., i], np.nan)
                    for i, each in enumerate(self._identifiers)
                },
            }

    def is_correct(self, contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        n = len(self.classes)
        return np.asarray(np.trace(contributions.reshape(-1, n, n), axis1=1, axis2=2) > 0)

    def errors(self, contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return 1 for a wrong class and 0 for the correct one, shape (n,)."""
        return np.asarray(~self.is_correct(contributions), dtype=np.float64)


def _composed(name: str) -> str:
    """Return a name in the composed form of Unicode, in which an accent is part of its letter."""
    return unicodedata.normalize("NFC", name)


def _normalized(shares: Any, ops: Any) -> Any:
    positive = ops.maximum(shares, SMALLEST)
    return positive / ops.sum(positive, axis=1, keepdims=True)


def _shares(statistics: LabelStatistics) -> npt.NDArray[np.float32]:
    # A class without training samples has the share 0, whose logarithm is minus infinity.
    return np.maximum(np.asarray(statistics.shares, dtype=np.float32), 1e-6)
