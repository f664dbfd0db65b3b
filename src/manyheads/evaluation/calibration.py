"""Calibration: how well confidence matches accuracy, and temperature scaling (Guo et al., ICML 2017)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from manyheads.evaluation.bootstrap import Array, Bootstrap, Estimate, estimate
from manyheads.heads import Labels
from manyheads.heads.categorical import SMALLEST

BINS = 15
"""Number of bins of equal mass for the expected calibration error."""

# Temperatures from about 0.05 to 20. Beyond them, the head is constant or wrong rather than badly calibrated.
LOG_TEMPERATURES = (-3.0, 3.0)


class Reliability(NamedTuple):
    """How well confidence matches accuracy.

    Attributes:
        metrics: ``ece`` (expected calibration error, bins of equal mass), ``nll`` (mean negative log-likelihood of the
            label, nats) and ``brier`` (squared error of the probabilities, summed over classes, 0 to 2).
        confidence: Mean probability of the predicted class in each bin.
        accuracy: Share of correct predictions in each bin.
        n: Number of samples in each bin.
    """

    metrics: dict[str, Estimate]
    confidence: list[float]
    accuracy: list[Estimate]
    n: list[int]


def fit_temperature(labels: Labels, predicted: Array) -> float:
    """Return the temperature that maximises the likelihood of the labels.

    Args:
        labels: Classes, shape (n,), int64; never those of the test subset.
        predicted: Probabilities of the classes, shape (n, classes).
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        scaled = at_temperature(predicted, float(np.exp(log_temperature)))
        return -float(np.mean(np.log(np.maximum(scaled[np.arange(len(labels)), labels], SMALLEST))))

    found = minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded")
    return float(np.exp(found.x))


def at_temperature(predicted: Array, temperature: float) -> Array:
    """Return probabilities after dividing their logits by a temperature; one above 1 lowers the confidence.

    Args:
        predicted: Probabilities of the classes, shape (n, classes).
        temperature: Above 0.

    Example:
        >>> at_temperature(np.array([[0.9, 0.1]]), 2.0).round(2).tolist()
        [[0.75, 0.25]]
    """
    logits = np.log(np.maximum(predicted, SMALLEST)) / temperature
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), dtype=np.float64)


def reliability(labels: Labels, predicted: Array, bootstrap: Bootstrap) -> Reliability:
    """Return how well predicted probabilities match observed frequencies.

    Args:
        labels: Classes, shape (n,), int64.
        predicted: Probabilities of the classes, shape (n, classes).
        bootstrap: Resamples of the same n samples.
    """
    n, classes = predicted.shape
    confidence, correct = predicted.max(axis=1), predicted.argmax(axis=1) == labels
    order = np.argsort(confidence, kind="stable")
    bins = np.empty(n, dtype=np.int64)
    bins[order] = np.arange(n) * min(BINS, n) // n
    in_bin = np.eye(min(BINS, n))[bins]
    likelihood = predicted[np.arange(n), labels]
    squared = np.sum((predicted - np.eye(classes)[labels]) ** 2, axis=1)
    columns = [in_bin, in_bin * confidence[:, None], in_bin * correct[:, None]]
    loss = -np.log(np.maximum(likelihood, SMALLEST))
    sums = bootstrap.sums(np.concatenate([*columns, loss[:, None], squared[:, None]], axis=1))
    count, confidence_sum, correct_sum = (sums[:, i * in_bin.shape[1] : (i + 1) * in_bin.shape[1]] for i in range(3))
    total = count.sum(axis=1)
    with np.errstate(invalid="ignore"):
        accuracy = correct_sum / count
    metrics = {
        "ece": estimate(np.abs(confidence_sum - correct_sum).sum(axis=1) / total),
        "nll": estimate(sums[:, -2] / total),
        "brier": estimate(sums[:, -1] / total),
    }
    return Reliability(
        metrics,
        (confidence_sum[0] / count[0]).tolist(),
        [estimate(accuracy[:, i]) for i in range(accuracy.shape[1])],
        count[0].astype(int).tolist(),
    )
