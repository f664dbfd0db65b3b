"""Candidates: settings that were tried, their means over the seeds, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from manyheads.evaluation.noise import Noise, Repeats, studentized_range
from manyheads.evaluation.settings import natural_order, short_names, short_value
from manyheads.evaluation.trials import SCORE, Trial, Values

Key = tuple[str, ...]
"""Values of the varied settings, in the order of the settings; it identifies a candidate."""


@dataclass(frozen=True)
class Candidate:
    """Settings that were tried, and their means over the seeds.

    Attributes:
        name: The varied settings and their values, in short.
        settings: The varied settings and their values, without the seed.
        trials: Its trainings.
        seeds: Number of seeds. Trainings with the same seed are averaged first and count as one repeat.
        scores: Means over the seeds: ``score``, and each head's skill score by the head's name.
        metrics: Means over the seeds of each head's main metric, in the metric's unit.
        on_front: Whether no other candidate is at least as good for every head and better for one.
        difference: Mean score less the best candidate's; 0 for the best itself, negative for the others.
        margin: Honest significant difference to the best candidate; None where noise is unknown, 0 for the best.
    """

    name: str
    settings: Mapping[str, str]
    trials: tuple[Trial, ...]
    seeds: int
    scores: Values
    metrics: Values
    on_front: bool
    difference: float
    margin: float | None

    @property
    def score(self) -> float:
        """Mean score: the sum of the heads' skill scores."""
        return self.scores[SCORE]

    @property
    def within_noise(self) -> bool | None:
        """Whether its difference to the best candidate is within noise; None where noise is unknown."""
        return None if self.margin is None else -self.difference <= self.margin


def find_candidates(
    trials: Mapping[Key, Sequence[Trial]],
    repeats: Mapping[Key, Repeats],
    varied: Sequence[str],
    heads: Sequence[str],
    noise: Noise | None,
) -> tuple[Candidate, ...]:
    """Return the candidates, the highest mean score first.

    Args:
        trials: The finished trials of each candidate.
        repeats: Scores and metrics of each candidate by seed.
        varied: The settings whose values make up the keys.
        heads: Names of the heads.
        noise: How much seeds vary, if it is known.
    """
    if not trials:
        return ()
    names = short_names(varied)
    means = {key: _means(each.scores) for key, each in repeats.items()}
    best = max(means, key=lambda key: means[key][SCORE])
    front = pareto_front(np.array([[scores[head] for head in heads] for scores in means.values()]))
    quantile = studentized_range(len(trials), noise.degrees) if noise and len(trials) > 1 else 0.0
    candidates = []
    for (key, scores), on_front in zip(means.items(), front, strict=True):
        margin, seeds = None, repeats[key].seeds
        if noise:
            # Tukey (1949) and Kramer (1956): with this margin, all pairs of candidates hold together at 95 %.
            inverse = 1 / seeds + 1 / repeats[best].seeds
            margin = 0.0 if key == best else quantile * noise.scores[SCORE] * math.sqrt(inverse / 2)
        candidates.append(
            Candidate(
                name=" ".join(f"{names[name]}={short_value(value)}" for name, value in zip(varied, key, strict=True))
                or (trials[key][0].name if len(trials[key]) == 1 else "as composed"),
                settings=dict(zip(varied, key, strict=True)),
                trials=tuple(sorted(trials[key], key=lambda trial: natural_order(trial.settings.get("seed", "")))),
                seeds=seeds,
                scores=scores,
                metrics=_means(repeats[key].metrics),
                on_front=on_front,
                difference=scores[SCORE] - means[best][SCORE],
                margin=margin,
            )
        )
    return tuple(sorted(candidates, key=lambda candidate: (-candidate.score, natural_order(candidate.name))))


def pareto_front(skills: npt.NDArray[np.float64]) -> list[bool]:
    """Return which candidates are not dominated by another one.

    Args:
        skills: Skill scores, shape (candidates, heads); greater is better.

    Example:
        >>> pareto_front(np.array([[0.8, 0.2], [0.2, 0.8], [0.1, 0.2]]))
        [True, True, False]
    """
    at_least = (skills[:, None, :] >= skills[None, :, :]).all(axis=2)
    more = (skills[:, None, :] > skills[None, :, :]).any(axis=2)
    dominated = np.any(at_least & more, axis=0)
    return [not row for row in dominated.tolist()]


def _means(rows: pd.DataFrame) -> dict[str, float]:
    return {str(name): float(value) for name, value in rows.mean().items()}
