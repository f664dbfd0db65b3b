import numpy as np
import pytest

from manyheads.evaluation import calibration
from manyheads.evaluation.bootstrap import Bootstrap
from manyheads.heads import Categorical


def sampled(n=6000, seed=0):
    """Return labels that are sampled from probabilities, and the probabilities."""
    generator = np.random.default_rng(seed)
    shares = generator.dirichlet([0.6, 0.6, 0.6], n)
    labels = (shares.cumsum(axis=1) < generator.random((n, 1))).sum(axis=1)
    return labels, shares


def reliability(labels, predicted):
    return calibration.reliability(labels, predicted, Bootstrap([f"{i}" for i in range(len(labels))]))


def test_probabilities_that_are_frequencies_are_calibrated():
    labels, shares = sampled()
    found = reliability(labels, shares)
    assert found.metrics["ece"].value < 0.02
    assert sum(found.n) == 6000
    assert max(found.n) - min(found.n) <= 1
    for sure, right in zip(found.confidence, found.accuracy, strict=True):
        assert right.low - 0.03 < sure < right.high + 0.03


def test_a_planted_miscalibration_is_seen_and_one_temperature_mends_it():
    labels, shares = sampled()
    too_sure = calibration.at_temperature(shares, 0.4)
    temperature = calibration.fit_temperature(*(values[:3000] for values in (labels, too_sure)))
    assert temperature == pytest.approx(2.5, rel=0.1)
    before = reliability(labels[3000:], too_sure[3000:]).metrics
    after = reliability(labels[3000:], calibration.at_temperature(too_sure[3000:], temperature)).metrics
    assert before["ece"].low > after["ece"].high
    assert before["nll"].low > after["nll"].high


def test_metrics_are_those_of_the_textbook():
    labels = np.array([0, 1, 1])
    predicted = np.array([[0.8, 0.2], [0.4, 0.6], [0.9, 0.1]])
    metrics = reliability(labels, predicted).metrics
    assert metrics["nll"].value == pytest.approx(-np.mean(np.log([0.8, 0.6, 0.1])))
    assert metrics["brier"].value == pytest.approx(np.mean([0.08, 0.32, 1.62]))
    assert metrics["ece"].value == pytest.approx(np.mean([0.2, 0.4, 0.9]))


def test_sigmoids_become_probabilities_and_zeros_stay_finite():
    found = Categorical(classes=("a", "b")).probabilities(
        np.array([[0.9, 0.9], [0.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    )
    assert found.sum(axis=1) == pytest.approx(1)
    assert np.all(found > 0)
    assert np.isfinite(reliability(np.array([1, 1, 1]), found).metrics["nll"].value)
