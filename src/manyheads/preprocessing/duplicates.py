"""Duplicate groups: samples that must be in the same subset of a split.

Two samples are in one group if their bytes are equal or if they are near duplicates: their fingerprints correlate.
Fingerprints of an image and its re-encoded, resized, slightly re-cropped or mirrored copies do. The name of a group
depends on its contents and not on the order of the samples.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

TILE = 512
"""Number of contents that are compared with as many others at once, in about 10 MB."""

ROUNDING = 1e-6
"""Tolerance below the threshold for the rounding of a correlation in float32."""

ID_DIGITS = 16
"""Hexadecimal digits of a group's name."""


class Duplicates(NamedTuple):
    """The duplicate groups of samples, and counts of what was found.

    Attributes:
        groups: The group of each sample: the first 16 digits of the smallest SHA-256 in the group.
        identical_groups: Number of contents that several samples share byte for byte.
        near_duplicate_pairs: Number of pairs of different contents that are near duplicates.
    """

    groups: list[str]
    identical_groups: int
    near_duplicate_pairs: int


def group_duplicates(sha256: Sequence[str], fingerprints: npt.NDArray[np.uint8] | None, threshold: float) -> Duplicates:
    """Group samples that are byte-identical or near duplicates.

    Two samples are near duplicates if the Pearson correlation of their fingerprints, one of which may be mirrored left
    to right, is at least ``threshold``. Groups are the connected components. A constant fingerprint correlates with
    none. All pairs of contents are compared: the time is quadratic in their number (a few seconds for 20,000), the
    memory is linear.

    Args:
        sha256: SHA-256 of each sample's bytes as hexadecimal digits, length n.
        fingerprints: See ``Input.fingerprint``, shape (n, height, width), uint8; None if the samples have none.
        threshold: The correlation, above 0 and at most 1.

    Returns:
        The groups, in the order of the arguments, and counts.

    Example:
        >>> group_duplicates(["b" * 64, "a" * 64, "b" * 64], None, threshold=0.985).identical_groups
        1
    """
    contents, first, content, copies = np.unique(
        np.asarray(sha256, dtype=str), return_index=True, return_inverse=True, return_counts=True
    )
    component = np.arange(len(contents))
    pairs = 0
    found = () if fingerprints is None else _correlated_pairs(fingerprints[first], threshold)
    for left, right in found:
        pairs += len(left)
        component = _joined(component, left, right)
    # Contents are sorted, so the first one of a component is the smallest.
    _, smallest, component = np.unique(component, return_index=True, return_inverse=True)
    names = contents[smallest].astype(f"<U{ID_DIGITS}")
    return Duplicates(names[component[content]].tolist(), int((copies > 1).sum()), pairs)


def _joined(
    component: npt.NDArray[np.int64], left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    links = coo_array((np.ones(len(left), bool), (component[left], component[right])), (len(component),) * 2)
    labels: npt.NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    return labels[component]


def _correlated_pairs(
    fingerprints: npt.NDArray[np.uint8], threshold: float
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield the pairs (left < right) of each tile that has any."""
    # After subtraction of the rounded mean, all products and their sums are integers below 2**24, which are exact in
    # float32. The result for a pair therefore depends neither on its tile nor on the order of a library's sums.
    pixels = fingerprints.shape[1] * fingerprints.shape[2]
    centred = (fingerprints - np.rint(fingerprints.mean(axis=(1, 2), keepdims=True))).astype(np.float32)
    sums = centred.sum(axis=(1, 2))
    variances = pixels * np.square(centred, dtype=np.float64).sum(axis=(1, 2)) - np.square(sums, dtype=np.float64)
    spreads = np.sqrt(np.where(variances > 0, variances, np.inf)).astype(np.float32)
    # Mirroring keeps the sum of the two halves and flips the sign of their difference. The products of the sums and
    # of the differences therefore give both correlations at the cost of one.
    half = fingerprints.shape[2] // 2
    left_half, right_half = centred[:, :, :half], centred[:, :, : half - 1 : -1]
    even = (left_half + right_half).reshape(len(centred), -1)
    odd = (left_half - right_half).reshape(len(centred), -1)
    least = np.float32(threshold - ROUNDING)
    for top in range(0, len(centred), TILE):
        rows = slice(top, top + TILE)
        for start in range(top, len(centred), TILE):
            columns = slice(start, start + TILE)
            products = even[rows] @ even[columns].T + np.abs(odd[rows] @ odd[columns].T)
            covariances = products * (pixels / 2) - np.outer(sums[rows], sums[columns])
            found = covariances >= least * np.outer(spreads[rows], spreads[columns])
            left, right = np.divmod(np.flatnonzero(found), found.shape[1])
            left, right = left + top, right + start
            once = left < right
            if once.any():
                yield left[once], right[once]
