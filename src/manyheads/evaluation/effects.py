"""Effects of settings: means by value, and the change of a score for each doubling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from manyheads.evaluation.bootstrap import CONFIDENCE
from manyheads.evaluation.candidates import Candidate, Key
from manyheads.evaluation.noise import Repeats
from manyheads.evaluation.settings import number_of, value_order
from manyheads.evaluation.trials import Values

MAX_VALUES = 8
"""Maximum number of values for which a numeric setting has means; each mean would be over few candidates."""


@dataclass(frozen=True)
class Marginal:
    """Means over all candidates that share a value of one setting; each candidate counts once.

    Attributes:
        setting: The setting.
        value: The value.
        seeds: Number of seeds of each candidate that has the value.
        scores: Means of ``score`` and of each head's skill score.
        metrics: Means of each head's main metric.
    """

    setting: str
    value: str
    seeds: tuple[int, ...]
    scores: Values
    metrics: Values


@dataclass(frozen=True)
class Slope:
    """Change of a score for each doubling of a setting, with the other numeric settings held constant.

    Attributes:
        setting: The setting.
        outcome: ``score``, or the head whose skill score changes.
        slope: Change of the outcome for each doubling.
        low: Lower end of its 95 % confidence interval.
        high: Upper end.
    """

    setting: str
    outcome: str
    slope: float
    low: float
    high: float

    @property
    def seen(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def find_marginals(candidates: Sequence[Candidate], varied: Sequence[str]) -> tuple[Marginal, ...]:
    """Return the means by setting and value, for settings with few values or with values that are not numbers."""
    marginals = []
    for setting in varied:
        values = sorted({candidate.settings[setting] for candidate in candidates}, key=value_order)
        numeric = all(number_of(value) is not None for value in values)
        if len(values) < 2 or (numeric and len(values) > MAX_VALUES):
            continue
        for value in values:
            sharing = [candidate for candidate in candidates if candidate.settings[setting] == value]
            marginals.append(
                Marginal(
                    setting,
                    value,
                    tuple(candidate.seeds for candidate in sharing),
                    _mean([candidate.scores for candidate in sharing]),
                    _mean([candidate.metrics for candidate in sharing]),
                )
            )
    return tuple(marginals)


def _mean(rows: Sequence[Values]) -> Values:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def fit_slopes(repeats: Mapping[Key, Repeats], varied: Sequence[str]) -> tuple[Slope, ...]:
    """Return the slopes of one additive least-squares fit on log2 of all settings that are positive numbers.

    An observation is a candidate with one seed. For an outcome ``y`` and settings ``x_j`` the model is
    ``y = b_0 + sum_j b_j log2(x_j)``, so ``b_j`` is the change for each doubling. Its interval is Student's t on
    ``n - p - 1`` residual degrees of freedom. Settings that are not positive numbers are left out of the model; their
    effect counts as residual. No slope is returned without a residual degree of freedom, or where settings are
    collinear.

    Args:
        repeats: Scores of each candidate by seed.
        varied: The settings whose values make up the keys.
    """
    from scipy import stats

    numeric = []
    for position, setting in enumerate(varied):
        numbers = {number_of(key[position]) for key in repeats}
        if len(numbers) > 1 and all(number is not None and number > 0 for number in numbers):
            numeric.append((position, setting))
    if not numeric:
        return ()
    rows = [
        [1.0, *(math.log2(float(key[i])) for i, _ in numeric)]
        for key, each in repeats.items()
        for _ in range(each.seeds)
    ]
    inputs = np.array(rows)
    outputs = pd.concat([each.scores for each in repeats.values()])
    degrees = inputs.shape[0] - inputs.shape[1]
    if degrees < 1 or np.linalg.matrix_rank(inputs) < inputs.shape[1]:
        return ()
    observed = outputs.to_numpy(dtype=np.float64)
    inverse = np.linalg.inv(inputs.T @ inputs)
    coefficients = inverse @ inputs.T @ observed
    variance = np.sum((observed - inputs @ coefficients) ** 2, axis=0) / degrees
    half = stats.t.ppf((1 + CONFIDENCE) / 2, degrees) * np.sqrt(np.outer(np.diag(inverse), variance))
    return tuple(
        Slope(setting, outcome, float(slope), float(slope - width), float(slope + width))
        for j, (_, setting) in enumerate(numeric, start=1)
        for outcome, slope, width in zip(outputs.columns, coefficients[j], half[j], strict=True)
    )
