"""Settings of image inputs, from a sample of the images."""

from __future__ import annotations

import hashlib
import io
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from manyheads.errors import Unreadable
from manyheads.guessing.sources import Source
from manyheads.inputs import ImageInput
from manyheads.preprocessing.duplicates import group_duplicates
from manyheads.runtime.progress import track

SAMPLE = 600
"""Number of images that are looked at."""

CORRELATIONS = (0.985, 0.995, 0.999, 1.0)
"""Thresholds of near duplicates. The first finds re-encoded, resized and mirrored copies of photographs (see
``ImageInput.duplicate_correlation``); the last finds copies with the same bytes alone."""

MOST_PARTNERS = 0.5
"""Number of near duplicates of an image from which images are alike by nature, such as drawings on white."""


class Looked(NamedTuple):
    """What a sample of the images shows.

    Attributes:
        settings: Settings of the input.
        said: The images in a few words.
        doubt: What is unsure, or an empty text.
        photographs: Whether they differ as photographs do, rather than being alike by nature.
    """

    settings: dict[str, object]
    said: str
    doubt: str
    photographs: bool


def look_at_images(source: Source, names: list[str], largest: int) -> Looked:
    """Return settings that suit images.

    Args:
        source: The data.
        names: Paths of the images.
        largest: Largest height and width that the network gets, in pixels.
    """
    chosen = np.random.default_rng(0).permutation(len(names))[:SAMPLE]
    sides: list[tuple[int, int]] = []
    fingerprints = []
    digests = []
    kind = ImageInput(image_size=32, duplicate_correlation=1.0)
    wanted = [names[index] for index in sorted(chosen)]
    for _, data in track(source.contents(wanted), "looking at images", len(wanted)):
        try:
            values = kind.encode(data).values
            with Image.open(io.BytesIO(data)) as image:
                sides.append(image.size)
        except Unreadable:
            continue
        fingerprints.append(kind.fingerprint(values))
        digests.append(hashlib.sha256(data).hexdigest())
    if not sides:
        return Looked(
            {"image_size": largest, "duplicate_correlation": CORRELATIONS[0]}, "no image could be read", "", False
        )
    shorter = int(np.median([min(pair) for pair in sides]))
    size = min(largest, max(16, shorter // 16 * 16))
    across, down = (int(np.median(values)) for values in zip(*sides, strict=True))
    correlation, partners = _correlation(digests, np.stack(fingerprints), len(names))
    doubt = ""
    if correlation != CORRELATIONS[0]:
        doubt = (
            f"the images are alike: at a correlation of {CORRELATIONS[0]} each would have {partners:.3g} near "
            f"duplicates, so duplicate_correlation is {correlation:g}; lower it if the data has edited copies of images"
        )
    chosen_settings: dict[str, object] = {"image_size": size, "duplicate_correlation": correlation}
    return Looked(chosen_settings, f"{across} x {down} pixels in the median", doubt, photographs=not doubt)


def _correlation(digests: list[str], fingerprints: npt.NDArray[np.uint8], n: int) -> tuple[float, float]:
    """Return the lowest threshold at which images have few near duplicates, and their number at the first threshold.

    The number for all images follows from that in the sample, because the number of pairs is quadratic.

    Args:
        digests: SHA-256 of each image of the sample.
        fingerprints: Fingerprints of the sample.
        n: Number of all images.
    """
    first = 0.0
    for threshold in CORRELATIONS[:-1]:
        pairs = group_duplicates(digests, fingerprints, threshold).near_duplicate_pairs
        partners = 2 * pairs / len(digests) * (n - 1) / max(len(digests) - 1, 1)
        first = first or partners
        if partners <= MOST_PARTNERS:
            return threshold, first
    return CORRELATIONS[-1], first
