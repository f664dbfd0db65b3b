"""Head kinds: what one output of the model is, from its label space to its report.

Everything that differs between a regression and a classification lives in this file. The model, the loss, the
report and the predictions loop over heads and know no kind, so a new kind is one more class here and one more member
of ``AnyHead``. A kind's fields are its configuration: ``heads`` in ``conf/data/*.yaml``.

Keras is imported inside the methods that build with it; everything else needs NumPy and scikit-learn at most.
"""

from __future__ import annotations

import itertools
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

Labels = npt.NDArray[np.int64]
Outputs = npt.NDArray[np.float32]

# A head's share of the objective: from all targets and all outputs of the model by name, tensors of shape
# (batch, units), to the mean loss, a scalar. So it may depend on several outputs at once.
Term = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]

# Losses that may fall below 0. A learned weight would grow without bound on them.
SIGNED_LOSSES = ("gaussian",)

# The 95th percentile of the standard normal: 90 % lie within this many standard deviations of the mean.
NORMAL_95 = 1.6448536


class Scale(NamedTuple):
    """How a regression label is standardised before its loss: ``(label - center) / spread``."""

    center: float
    spread: float


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
    @abstractmethod
    def main_metric(self) -> str:
        """Name of the metric that the score is made from."""

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
    def scale(self, mode: Literal["standard", "maximum"], labels: Labels) -> Scale:
        """Return the scale that the loss is computed on, from the training labels, shape (n,)."""

    def output_names(self, name: str, existing: Container[str]) -> list[str]:
        """Return which of a model's outputs are this head's; side by side they are the columns of ``Outputs``."""
        del existing
        return [name]

    @abstractmethod
    def outputs(self, features: keras.KerasTensor, name: str, loss: str, scale: Scale) -> dict[str, keras.KerasTensor]:
        """Return the head's outputs by name, shape (batch, units), float32; ``name`` is in the unit of the label."""

    @abstractmethod
    def targets(self, labels: Labels) -> npt.NDArray[np.float32]:
        """Return what the output is compared with in training, shape (n, units), float32."""

    @abstractmethod
    def term(self, name: str, function: str, scale: Scale) -> Term:
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

    @abstractmethod
    def columns(self, name: str, outputs: Outputs) -> dict[str, Any]:
        """Return the columns that a table of predictions has for this head, each of length n."""

    @abstractmethod
    def names(self, labels: Labels) -> npt.NDArray[Any]:
        """Return how labels are written in a table of predictions, shape (n,)."""

    @abstractmethod
    def measure(self, labels: Labels, outputs: Outputs) -> dict[str, float]:
        """Return the figures of predictions against labels; ``main_metric`` is among them."""

    @abstractmethod
    def gain(self, value: float, baseline: float) -> float:
        """Return how far ``main_metric`` is from its trivial baseline (0) towards perfection (1)."""

    @abstractmethod
    def report(self, labels: Labels, outputs: Outputs) -> HeadReport:
        """Return the full test report."""

    @abstractmethod
    def figure(self, name: str, labels: Labels, outputs: Outputs) -> Figure:
        """Return a figure of predictions against labels."""


class Regression(Head):
    """A whole-number label on a line, predicted as one real number, or as the mean and variance of a Gaussian.

    With the loss ``gaussian`` there is a second output, ``<name>_log_variance``: log of the variance in squared units
    of the label. The loss is the negative log-likelihood of the standardised label, less its constant:
    ``(s + (y - m)^2 exp(-s)) / 2`` (Nix and Weigend, 1994; Kendall and Gal, NeurIPS 2017).

    Attributes:
        unit: What the label counts, in the plural.
        minimum: Smallest label of the label space.
        maximum: Largest label of the label space.
        bins: Inner edges of the bins that a split is stratified over; a label on an edge belongs to the upper bin.
        tolerance: Half-width of the band whose share of predictions is reported.
    """

    kind: Literal["regression"] = "regression"
    unit: str
    minimum: int
    maximum: int
    bins: tuple[int, ...] = ()
    tolerance: int = Field(default=5, gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        edges = (self.minimum, *self.bins, self.maximum)
        if list(edges) != sorted(set(edges)):
            raise ValueError(f"minimum, bins and maximum must increase, got {list(edges)}")
        return self

    @property
    def loss_functions(self) -> tuple[str, ...]:
        return ("mse", "mae", "huber", "gaussian")

    @property
    def main_metric(self) -> str:
        return "mae"

    @property
    def class_names(self) -> tuple[str, ...]:
        return ()

    def refuse(self, label: int) -> str | None:
        if self.minimum <= label <= self.maximum:
            return None
        return f"{label} is outside {self.minimum}-{self.maximum} {self.unit}"

    def strata(self, labels: Labels) -> npt.NDArray[np.int64]:
        return np.digitize(labels, self.bins).astype(np.int64)

    def describe(self, labels: Labels) -> dict[str, float]:
        return {"mean": round(float(np.mean(labels)), 4), "median": float(np.median(labels))}

    def scale(self, mode: Literal["standard", "maximum"], labels: Labels) -> Scale:
        if mode == "maximum":
            return Scale(0.0, float(self.maximum))
        return Scale(float(np.mean(labels)), float(np.std(labels)) or 1.0)

    def output_names(self, name: str, existing: Container[str]) -> list[str]:
        log_variance = f"{name}_log_variance"
        return [name, log_variance] if log_variance in existing else [name]

    def outputs(self, features: keras.KerasTensor, name: str, loss: str, scale: Scale) -> dict[str, keras.KerasTensor]:
        """Return the value, and for ``gaussian`` the log variance.

        The standard deviation starts at the spread of the labels and stays between a hundredth of it and a
        hundredfold, so that the likelihood of one sample cannot run away.
        """
        import keras

        standardised = keras.layers.Dense(1, dtype="float32", name=f"{name}_standardised")(features)
        outputs = {name: keras.layers.Rescaling(scale.spread, scale.center, dtype="float32", name=name)(standardised)}
        if loss == "gaussian":
            bounded = keras.layers.Dense(
                1, activation="tanh", kernel_initializer="zeros", dtype="float32", name=f"{name}_bounded"
            )(features)
            within = keras.layers.Rescaling(
                2 * math.log(100), 2 * math.log(scale.spread), dtype="float32", name=f"{name}_log_variance"
            )
            outputs[f"{name}_log_variance"] = within(bounded)
        return outputs

    def targets(self, labels: Labels) -> npt.NDArray[np.float32]:
        return labels.astype(np.float32)[:, None]

    def term(self, name: str, function: str, scale: Scale) -> Term:
        """Return the loss on standardised labels, while targets and outputs keep the label's unit."""
        import keras

        def standardised(values: Any) -> Any:
            return (values - scale.center) / scale.spread

        def gaussian(targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
            squared_error = keras.ops.square(standardised(targets[name]) - standardised(outputs[name]))
            log_variance = outputs[f"{name}_log_variance"] - 2 * math.log(scale.spread)
            return keras.ops.mean(log_variance + squared_error * keras.ops.exp(-log_variance)) / 2

        if function == "gaussian":
            return gaussian
        losses: dict[str, keras.losses.Loss] = {
            "mse": keras.losses.MeanSquaredError(),
            "mae": keras.losses.MeanAbsoluteError(),
            "huber": keras.losses.Huber(),
        }
        loss = losses[function]
        return lambda targets, outputs: loss(standardised(targets[name]), standardised(outputs[name]))

    def training_metrics(self, name: str) -> list[keras.metrics.Metric]:
        import keras

        return [keras.metrics.MeanAbsoluteError(name=f"{name}_mae")]

    def constant(self, labels: Labels) -> Outputs:
        return np.array([[np.median(labels)]], dtype=np.float32)

    def values(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        return outputs[:, 0].astype(np.float64)

    def interval(self, outputs: Outputs) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
        """Return the ends of the central 90 % interval, each of shape (n,), or None for outputs without variance."""
        if outputs.shape[1] == 1:
            return None
        reach = NORMAL_95 * np.exp(outputs[:, 1].astype(np.float64) / 2)
        return self.values(outputs) - reach, self.values(outputs) + reach

    def columns(self, name: str, outputs: Outputs) -> dict[str, Any]:
        """Return the value, and where there is a variance, the ends of the central 90 % interval."""
        columns = {name: np.round(self.values(outputs), 2)}
        if (interval := self.interval(outputs)) is not None:
            columns |= {f"{name}_low": np.round(interval[0], 2), f"{name}_high": np.round(interval[1], 2)}
        return columns

    def names(self, labels: Labels) -> npt.NDArray[Any]:
        return labels

    def measure(self, labels: Labels, outputs: Outputs) -> dict[str, float]:
        """Return the figures of the values, and where there is a variance, those of the central 90 % interval.

        ``coverage_90`` is the share of labels inside their interval, ``interval_width`` its mean width.
        """
        from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

        predicted = self.values(outputs)
        figures = {
            "mae": float(mean_absolute_error(labels, predicted)),
            "rmse": float(root_mean_squared_error(labels, predicted)),
            "r2": float(r2_score(labels, predicted)) if len(labels) > 1 else float("nan"),
            "bias": float(np.mean(predicted - labels)),
            f"within_{self.tolerance}": float(np.mean(np.abs(predicted - labels) <= self.tolerance)),
        }
        if (interval := self.interval(outputs)) is not None:
            low, high = interval
            figures["coverage_90"] = float(np.mean((low <= labels) & (labels <= high)))
            figures["interval_width"] = float(np.mean(high - low))
        return figures

    def gain(self, value: float, baseline: float) -> float:
        return 1 - value / baseline if baseline else 0.0

    def report(self, labels: Labels, outputs: Outputs) -> HeadReport:
        """Return the figures overall and in each bin of the true label."""
        edges = [self.minimum, *self.bins, self.maximum + 1]
        strata = self.strata(labels)
        lines = [f"{self.unit:>12} {'mae':>8} {'rmse':>8} {'bias':>8} {f'within {self.tolerance}':>9} {'support':>8}"]
        data: dict[str, Any] = {}
        rows = [(f"{low}-{high - 1}", strata == i) for i, (low, high) in enumerate(itertools.pairwise(edges))]
        for label, rows_in in [*rows, ("all", np.ones(len(labels), dtype=bool))]:
            if not rows_in.any():
                continue
            figures = self.measure(labels[rows_in], outputs[rows_in]) | {"support": int(rows_in.sum())}
            data[label] = figures
            lines.append(
                f"{label:>12} {figures['mae']:8.2f} {figures['rmse']:8.2f} {figures['bias']:+8.2f} "
                f"{figures[f'within_{self.tolerance}']:9.2f} {figures['support']:8d}"
            )
        lines.append(f"\nR² {data['all']['r2']:.4f}; errors in {self.unit}; bias is predicted less labelled")
        if "coverage_90" in data["all"]:
            lines.append(
                f"the 90 % intervals hold {data['all']['coverage_90']:.3f} of the labels, "
                f"mean width {data['all']['interval_width']:.1f} {self.unit}"
            )
        return HeadReport("\n".join(lines) + "\n", data)

    def figure(self, name: str, labels: Labels, outputs: Outputs) -> Figure:
        """Return a map of how many samples have which label and prediction, with the line of perfect predictions."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.6, 4), layout="constrained")
        axis = figure.subplots()
        ends = (float(self.minimum), float(self.maximum))
        edges = np.linspace(ends[0], ends[1], 59)
        predicted = np.clip(self.values(outputs), ends[0], ends[1])
        *_, image = axis.hist2d(labels, predicted, bins=[edges, edges], cmin=1, cmap="viridis")
        axis.plot(ends, ends, color="grey", linestyle=":")
        axis.set(
            title=f"{name}, test",
            xlabel=f"{self.unit}, as labelled",
            ylabel=f"{self.unit}, as predicted",
            aspect="equal",
        )
        figure.colorbar(image, label="samples")
        return figure


class Categorical(Head):
    """A label that is one of a few classes, two or more, predicted as a probability for each.

    Attributes:
        classes: Names of the classes; label i is the i-th.
    """

    kind: Literal["categorical"] = "categorical"
    classes: tuple[str, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes must differ, got {list(self.classes)}")
        return self

    @property
    def loss_functions(self) -> tuple[str, ...]:
        return ("categorical_crossentropy", "binary_crossentropy")

    @property
    def main_metric(self) -> str:
        return "accuracy"

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.classes

    def refuse(self, label: int) -> str | None:
        if 0 <= label < len(self.classes):
            return None
        return f"{label} is none of 0-{len(self.classes) - 1} ({', '.join(self.classes)})"

    def strata(self, labels: Labels) -> npt.NDArray[np.int64]:
        return labels.astype(np.int64)

    def describe(self, labels: Labels) -> dict[str, float]:
        return {name: int((labels == label).sum()) for label, name in enumerate(self.classes)}

    def scale(self, mode: Literal["standard", "maximum"], labels: Labels) -> Scale:
        del mode, labels
        return Scale(0.0, 1.0)

    def outputs(self, features: keras.KerasTensor, name: str, loss: str, scale: Scale) -> dict[str, keras.KerasTensor]:
        """Return one unit a class; softmax, or sigmoids where the loss takes each class as a yes or no of its own."""
        import keras

        del scale
        activation = "sigmoid" if loss == "binary_crossentropy" else "softmax"
        units = len(self.classes)
        return {name: keras.layers.Dense(units, activation=activation, dtype="float32", name=name)(features)}

    def targets(self, labels: Labels) -> npt.NDArray[np.float32]:
        return np.eye(len(self.classes), dtype=np.float32)[labels]

    def term(self, name: str, function: str, scale: Scale) -> Term:
        import keras

        del scale
        losses: dict[str, keras.losses.Loss] = {
            "categorical_crossentropy": keras.losses.CategoricalCrossentropy(),
            "binary_crossentropy": keras.losses.BinaryCrossentropy(),
        }
        loss = losses[function]
        return lambda targets, outputs: loss(targets[name], outputs[name])

    def training_metrics(self, name: str) -> list[keras.metrics.Metric]:
        import keras

        return [keras.metrics.CategoricalAccuracy(name=f"{name}_accuracy")]

    def constant(self, labels: Labels) -> Outputs:
        counts = np.bincount(labels, minlength=len(self.classes))
        return np.eye(len(self.classes), dtype=np.float32)[[counts.argmax()]]

    def values(self, outputs: Outputs) -> Labels:
        return np.asarray(outputs.argmax(axis=1), dtype=np.int64)

    def columns(self, name: str, outputs: Outputs) -> dict[str, Any]:
        """Return the class name, and each class's probability; sigmoids are divided by their sum."""
        probabilities = outputs / np.maximum(outputs.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return {
            name: np.array(self.classes)[self.values(outputs)],
            **{
                f"{name}_{re.sub('[^0-9A-Za-z]+', '_', label)}": np.round(probabilities[:, i].astype(np.float64), 4)
                for i, label in enumerate(self.classes)
            },
        }

    def names(self, labels: Labels) -> npt.NDArray[Any]:
        return np.array(self.classes)[labels]

    def measure(self, labels: Labels, outputs: Outputs) -> dict[str, float]:
        """Return the accuracy, and the means of F1 and recall over the classes that the labels hold."""
        from sklearn.metrics import accuracy_score, f1_score, recall_score

        predicted = self.values(outputs)
        present = np.unique(labels)
        mean = {"labels": present, "average": "macro", "zero_division": 0.0}
        return {
            "accuracy": float(accuracy_score(labels, predicted)),
            "macro_f1": float(f1_score(labels, predicted, **mean)),
            "balanced_accuracy": float(recall_score(labels, predicted, **mean)),
        }

    def gain(self, value: float, baseline: float) -> float:
        return (value - baseline) / (1 - baseline) if baseline < 1 else 0.0

    def report(self, labels: Labels, outputs: Outputs) -> HeadReport:
        """Return scikit-learn's classification report and the confusion matrix, rows true, columns predicted."""
        from sklearn.metrics import classification_report, confusion_matrix

        predicted = self.values(outputs)
        every = list(range(len(self.classes)))
        options = {"labels": every, "target_names": list(self.classes), "zero_division": 0.0}
        text = classification_report(labels, predicted, **options)
        data = classification_report(labels, predicted, output_dict=True, **options)
        matrix = confusion_matrix(labels, predicted, labels=every)
        width = max(8, *(len(label) + 1 for label in self.classes))
        header = " " * width + "".join(f"{label:>{width}}" for label in self.classes)
        rows = [
            f"{label:>{width}}" + "".join(f"{n:{width}d}" for n in row)
            for label, row in zip(self.classes, matrix, strict=True)
        ]
        text += "\nconfusion matrix (rows as labelled, columns as predicted)\n" + "\n".join([header, *rows]) + "\n"
        return HeadReport(text, {**data, "confusion": matrix.tolist(), "classes": list(self.classes)})

    def figure(self, name: str, labels: Labels, outputs: Outputs) -> Figure:
        """Return the confusion matrix: shares of each labelled class, with counts."""
        from matplotlib.figure import Figure
        from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

        figure = Figure(figsize=(1.6 + 0.8 * len(self.classes), 1 + 0.75 * len(self.classes)), layout="constrained")
        axis = figure.subplots()
        counts = confusion_matrix(labels, self.values(outputs), labels=list(range(len(self.classes))))
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        display = ConfusionMatrixDisplay(shares, display_labels=list(self.classes))
        display.plot(ax=axis, cmap="Blues", values_format=".2f", colorbar=False, im_kw={"vmin": 0, "vmax": 1})
        for (row, column), text in np.ndenumerate(display.text_):
            text.set_text(f"{shares[row, column]:.2f}\n{counts[row, column]}")
            text.set_fontsize("small")
        axis.set(title=f"{name}, test", xlabel="as predicted", ylabel="as labelled")
        return figure


AnyHead = Annotated[Regression | Categorical, Field(discriminator="kind")]


def gains(heads: Mapping[str, Head], metrics: Mapping[str, float], baselines: Mapping[str, float]) -> dict[str, float]:
    """Return each head's gain over the trivial baseline: 0 is a constant answer, 1 is perfection.

    Args:
        heads: The heads by name.
        metrics: Value of each head's ``main_metric``.
        baselines: The same for the best constant answer.
    """
    return {name: head.gain(metrics[name], baselines[name]) for name, head in heads.items()}


def score(heads: Mapping[str, Head], metrics: Mapping[str, float], baselines: Mapping[str, float]) -> float:
    """Return the sum over the heads of the gain over the trivial baseline, each on its own scale.

    0 is a constant answer, the number of heads is perfection. The score does not depend on loss functions or their
    weights, so epochs and runs with different weights compare. The arguments are those of ``gains``.
    """
    return sum(gains(heads, metrics, baselines).values())


def trivial_baselines(
    heads: Mapping[str, Head], fitted_on: Mapping[str, Labels], judged_on: Mapping[str, Labels]
) -> dict[str, dict[str, float]]:
    """Return each head's figures for the best constant answer to the labels ``fitted_on``, judged on others."""
    figures = {}
    for name, head in heads.items():
        constant = np.repeat(head.constant(fitted_on[name]), len(judged_on[name]), axis=0)
        figures[name] = head.measure(judged_on[name], constant)
    return figures
