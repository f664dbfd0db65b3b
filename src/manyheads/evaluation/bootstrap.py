"""Bootstrap intervals for anything that follows from sums over samples.

Samples of one duplicate group are drawn together: two copies of a sample are no two pieces of evidence (the cluster
bootstrap: Davison and Hinkley, 1997, section 3.8). All figures of an evaluation share the same resamples, so that
differences between them are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 1000

# An interval from fewer resamples than this share would be that of the lucky ones.
LEAST_VALID = 0.95


class Estimate(NamedTuple):
    """A figure and its interval; None where the samples are not enough to say.

    Attributes:
        value: The figure for the samples as they are.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    value: float | None
    low: float | None
    high: float | None


class Bootstrap:
    """A thousand resamples of whole groups of samples."""

    def __init__(self, groups: Sequence[str] | npt.NDArray[np.object_], seed: int = 0, resamples: int = RESAMPLES):
        """Draw the resamples.

        Args:
            groups: Name of each sample's group, length n.
            seed: Seed of the drawing.
            resamples: How many.
        """
        names, self._codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        self._n_groups = len(names)
        generator = np.random.default_rng(seed)
        shares = np.full(self._n_groups, 1 / self._n_groups)
        # How often each group is in each resample, shape (resamples, groups).
        self._counts = generator.multinomial(self._n_groups, shares, size=resamples).astype(np.float64)

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(self._codes)

    def sums(self, contributions: Array, rows: npt.NDArray[np.bool_] | None = None) -> Array:
        """Return the sums over the samples as they are and over each resample, shape (1 + resamples, k).

        Args:
            contributions: What each sample adds, shape (n, k).
            rows: The samples that count, shape (n,); all by default.
        """
        if rows is not None:
            contributions = np.where(rows[:, None], contributions, 0.0)
        by_group = np.zeros((self._n_groups, contributions.shape[1]))
        np.add.at(by_group, self._codes, contributions)
        return np.concatenate([by_group.sum(axis=0, keepdims=True), self._counts @ by_group])


def estimate(values: Array) -> Estimate:
    """Return the first value, and the percentile interval of the others.

    Args:
        values: A figure for the samples as they are and for each resample, shape (1 + resamples,).
    """
    value, resampled = float(values[0]), values[1:]
    valid = resampled[np.isfinite(resampled)]
    if not np.isfinite(value):
        return Estimate(None, None, None)
    if len(valid) < LEAST_VALID * len(resampled):
        return Estimate(value, None, None)
    low, high = np.quantile(valid, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, float(low), float(high))
