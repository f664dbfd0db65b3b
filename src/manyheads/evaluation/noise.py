"""Noise: how much trainings vary that differ in the seed alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from manyheads.evaluation.bootstrap import CONFIDENCE
from manyheads.evaluation.trials import SCORE, Trial, Values
from manyheads.heads.metrics import Metric


class Repeats(NamedTuple):
    """The trials of one candidate as two tables, one row a seed.

    Attributes:
        scores: Columns ``score`` and each head's skill score, by the head's name.
        metrics: Each head's main metric, by the head's name.
    """

    scores: pd.DataFrame
    metrics: pd.DataFrame

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self.scores)


@dataclass(frozen=True)
class Noise:
    """Pooled standard deviations within candidates, over trainings that differ in the seed alone.

    Attributes:
        scores: Deviation of ``score``, and of each head's skill score by the head's name.
        metrics: Deviation of each head's main metric, in the metric's unit.
        degrees: Degrees of freedom: the number of seeds less one, summed over all candidates.

    Example:
        >>> noise = Noise({"score": 0.02}, {}, degrees=6)
        >>> round(noise.half_width(0.02, [3]), 3)  # of the mean of three seeds
        0.028
    """

    scores: Values
    metrics: Values
    degrees: int

    def half_width(self, deviation: float, seeds: Sequence[int]) -> float:
        """Return half the 95 % confidence interval of a mean of candidates' means.

        Args:
            deviation: The standard deviation that applies, one of ``scores`` or ``metrics``.
            seeds: Number of seeds of each candidate in the mean.
        """
        from scipy import stats

        quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.degrees))
        return quantile * deviation * math.sqrt(sum(1 / n for n in seeds)) / len(seeds)


def repeats_of(trials: Sequence[Trial], heads: Sequence[str], main_metrics: Mapping[str, Metric]) -> Repeats:
    """Return the means over the trials of each seed. Trials with the same seed are not repeats of each other.

    Args:
        trials: The trials of one candidate.
        heads: Names of the heads.
        main_metrics: Each head's main metric.
    """
    scores = {SCORE: "best/val/score"} | {head: f"best/val/{head}/skill" for head in heads}
    metrics = {head: f"best/val/{head}/{metric.name}" for head, metric in main_metrics.items()}
    seeds = [trial.settings.get("seed", "") for trial in trials]

    def by_seed(columns: Mapping[str, str]) -> pd.DataFrame:
        rows = [{name: trial.metrics[key] for name, key in columns.items()} for trial in trials]
        return pd.DataFrame(rows, index=range(len(trials))).groupby(seeds).mean()

    return Repeats(by_seed(scores), by_seed(metrics))


def pooled_noise(repeats: Sequence[Repeats]) -> Noise | None:
    """Return the noise over all candidates, or None if no candidate has two seeds."""
    degrees = sum(each.seeds - 1 for each in repeats)
    if degrees < 1:
        return None

    def pooled(tables: Sequence[pd.DataFrame]) -> dict[str, float]:
        squares = pd.concat([rows - rows.mean() for rows in tables]).pow(2).sum()
        return {str(name): math.sqrt(value / degrees) for name, value in squares.items()}

    return Noise(pooled([each.scores for each in repeats]), pooled([each.metrics for each in repeats]), degrees)


def studentized_range(candidates: int, degrees: int) -> float:
    """Return the 95 % quantile of the studentized range of the means of so many candidates."""
    from scipy import stats

    return float(stats.studentized_range.ppf(CONFIDENCE, candidates, degrees))
