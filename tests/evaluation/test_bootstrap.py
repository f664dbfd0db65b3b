import numpy as np
import pytest
from scipy.stats import bootstrap as reference

from manyheads.evaluation.bootstrap import Bootstrap, estimate


def mean(sums):
    with np.errstate(invalid="ignore"):  # 0 / 0 where a resample has no row that counts
        return sums[:, 0] / sums[:, 1]


def contributions(values):
    return np.stack([values, np.ones_like(values)], axis=1)


def test_single_samples_give_the_interval_that_scipy_gives():
    values = np.random.default_rng(0).gamma(2, 3, 400)
    found = estimate(mean(Bootstrap([f"{i}" for i in range(400)], resamples=4000).sums(contributions(values))))
    expected = reference((values,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=0.02)


def test_copies_of_a_sample_are_no_more_evidence_than_the_sample():
    values = np.random.default_rng(0).normal(size=100)
    once = estimate(mean(Bootstrap([f"{i}" for i in range(100)]).sums(contributions(values))))
    groups = [f"{i % 100}" for i in range(400)]
    four_times = estimate(mean(Bootstrap(groups).sums(contributions(np.tile(values, 4)))))
    assert four_times == pytest.approx(once)
    alone = estimate(mean(Bootstrap([f"{i}" for i in range(400)]).sums(contributions(np.tile(values, 4)))))
    assert alone.high - alone.low < 0.6 * (once.high - once.low)


def test_rows_that_do_not_count_are_left_out():
    values = np.arange(10.0)
    sums = Bootstrap(["a"] * 5 + ["b"] * 5).sums(contributions(values), values < 5)
    assert mean(sums)[0] == 2.0
    assert set(sums[1:, 1].tolist()) == {0.0, 5.0, 10.0}


def test_too_few_resamples_that_say_anything_give_no_interval():
    sums = Bootstrap(["a", "b", "c"]).sums(contributions(np.arange(3.0)), np.array([True, False, False]))
    assert estimate(mean(sums)) == (0.0, None, None)
    assert estimate(np.full(5, np.nan)) == (None, None, None)
