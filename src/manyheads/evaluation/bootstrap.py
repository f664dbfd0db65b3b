"""Bootstrap intervals for metrics that follow from sums over samples.

Whole duplicate groups are resampled, because two copies of a sample are not independent evidence (the cluster
bootstrap: Davison and Hinkley, 1997, section 3.8). All metrics of an evaluation share the same resamples, so
differences between them are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CONFIDENCE = 0.95
"""Confidence level of every interval of the evaluation and of the comparison of trials."""

RESAMPLES = 1000
"""Number of bootstrap resamples."""

# Minimum share of resamples for which a metric is defined. An interval from fewer of them would be biased.
MINIMUM_VALID = 0.95


class Estimate(NamedTuple):
    """A metric and its interval; None where there are too few samples.

    Attributes:
        value: The metric of the samples, without resampling.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    value: float | None
    low: float | None
    high: float | None


class Bootstrap:
    """Resamples of whole groups of samples.

    Example:
        >>> bootstrap = Bootstrap(["a", "b", "b", "c"])
        >>> sums = bootstrap.sums(np.array([[1.0], [0.0], [0.0], [1.0]]))
        >>> estimate(sums[:, 0] / len(bootstrap)).value
        0.5
    """

    def __init__(self, groups: Sequence[str] | npt.NDArray[np.object_], seed: int = 0, resamples: int = RESAMPLES):
        """Draw the resamples.

        Args:
            groups: Name of each sample's group, length n.
            seed: Seed of the resampling.
            resamples: Number of resamples.
        """
        names, self._codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        self._n_groups = len(names)
        generator = np.random.default_rng(seed)
        shares = np.full(self._n_groups, 1 / self._n_groups)
        # How often each group is in each resample, shape (resamples, groups).
        self._counts = generator.multinomial(self._n_groups, shares, size=resamples).astype(np.float64)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._codes)

    def sums(self, contributions: Array, rows: npt.NDArray[np.bool_] | None = None) -> Array:
        """Return the sums over all samples, then over each resample, shape (1 + resamples, k).

        Args:
            contributions: What each sample adds, shape (n, k).
            rows: Whether each sample counts, shape (n,); all count by default.
        """
        if rows is not None:
            contributions = np.where(rows[:, None], contributions, 0.0)
        by_group = np.zeros((self._n_groups, contributions.shape[1]))
        np.add.at(by_group, self._codes, contributions)
        return np.concatenate([by_group.sum(axis=0, keepdims=True), self._counts @ by_group])


def estimate(values: Array) -> Estimate:
    """Return the first value, with the percentile interval of the others.

    Args:
        values: A metric of all samples, then of each resample, shape (1 + resamples,); NaN where it is undefined.
    """
    value, resampled = float(values[0]), values[1:]
    valid = resampled[np.isfinite(resampled)]
    if not np.isfinite(value):
        return Estimate(None, None, None)
    if len(valid) < MINIMUM_VALID * len(resampled):
        return Estimate(value, None, None)
    low, high = np.quantile(valid, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, float(low), float(high))
