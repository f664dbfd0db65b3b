"""Novelty: how far a new sample is from the training data, in its properties and in the features of the network.

The distance of features is a Mahalanobis distance (Lee et al., NeurIPS 2018, with one class) whose smallest directions
are taken together. A sample far from the training data gets a prediction like any other, which may mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from manyheads.errors import IntegrityError
from manyheads.inputs import Input

Features = npt.NDArray[np.float32]
Directions = npt.NDArray[np.float32]
"""The mean of the training's features and their scaled principal directions, shape (1 + directions, width)."""

SAMPLES = 1000
"""Largest number of training samples that the directions are computed from, and of validation samples for the limit."""

MOST_DIRECTIONS = 128

MARKED_SHARE = 0.01
"""Share of the validation samples that are farther than the limit."""

Range = tuple[float, float]


class Reference(BaseModel):
    """Reference data for predictions: what new samples are compared with.

    Attributes:
        ranges: Smallest and largest value of each property in the training subset, by input and name; see ``Encoded``.
        distance_limit: The distance that ``MARKED_SHARE`` of the validation samples exceed, or None if the network does
            not mark its features.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ranges: dict[str, dict[str, Range]]
    distance_limit: float | None


def sampled(rows: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Return at most ``SAMPLES`` of the rows, drawn without replacement, in ascending order."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:SAMPLES])


def directions_of(features: Features) -> Directions:
    """Return the mean and the principal directions of the training's features.

    Each direction is divided by the standard deviation along it; directions without variance are left out. The last row
    is the root mean square of what these directions leave of a sample, in its first value.

    Args:
        features: Shape (n, width), n at least 2.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    centred = features - mean
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    deviations = singular / np.sqrt(len(features))
    kept = int((deviations[:MOST_DIRECTIONS] > 1e-6 * max(float(deviations[0]), 1e-12)).sum())
    rest = np.sqrt((deviations[kept:] ** 2).sum())
    last = np.zeros_like(mean)
    last[0] = max(float(rest), 1e-3 * float(np.sqrt((deviations**2).sum())), 1e-12)
    return np.vstack([mean, axes[:kept] / deviations[:kept, None], last]).astype(np.float32)


def distances(features: Features, directions: Directions) -> npt.NDArray[np.float64]:
    """Return the distance of each sample from the training data; its mean square is about 2 there.

    Args:
        features: Shape (n, width).
        directions: From ``directions_of``.
    """
    mean, scaled, rest = directions[0], directions[1:-1].astype(np.float64), float(directions[-1, 0])
    centred = features.astype(np.float64) - mean
    along = centred @ scaled.T
    # A scaled direction is a unit vector divided by its deviation, so dividing again by its square restores the unit.
    lengths = (scaled**2).sum(axis=1)
    left = centred - (along / lengths) @ scaled
    mean_square = (along**2).sum(axis=1) / max(len(scaled), 1)
    return np.asarray(np.sqrt(mean_square + (left**2).sum(axis=1) / rest**2))


def distance_limit(values: npt.NDArray[np.float64]) -> float:
    """Return the distance that ``MARKED_SHARE`` of the validation samples exceed."""
    return float(np.quantile(values, 1 - MARKED_SHARE))


def check(directions: npt.NDArray[Any], width: int) -> None:
    """Raise IntegrityError unless an array is that of ``directions_of`` for features of this width."""
    fits = directions.dtype == np.float32 and directions.ndim == 2 and len(directions) >= 2
    if not (fits and directions.shape[1] == width and np.isfinite(directions).all()):
        raise IntegrityError(f"the model's features have a width of {width}, but its directions are another's")


def unusual_properties(
    reference: Reference, kinds: Mapping[str, Input], properties: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """Return a few words on each property of a sample that is outside of what the training subset had.

    Args:
        reference: What the model was trained on.
        kinds: The inputs by name.
        properties: The sample's properties by input.

    Example:
        >>> from manyheads.inputs import TextInput
        >>> kinds = {"review": TextInput(vocabulary=100, length=50)}
        >>> reference = Reference(ranges={"review": {"tokens": (5, 60)}}, distance_limit=None)
        >>> unusual_properties(reference, kinds, {"review": {"tokens": 400}})
        ['tokens 400, in training 5 to 60']
    """
    words = []
    for name, ranges in reference.ranges.items():
        for each, (low, high) in ranges.items():
            value = properties[name].get(each)
            least, most = kinds[name].usual_range(each, low, high)
            if value is not None and not least <= value <= most:
                of = f"{name}: " if len(kinds) > 1 else ""
                usual = f"{low:.5g}" if low == high else f"{low:.5g} to {high:.5g}"
                words.append(f"{of}{each} {value:.5g}, in training {usual}")
    return words
