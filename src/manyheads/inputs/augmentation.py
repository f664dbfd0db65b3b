"""Augmentation of training images, one batch at a time.

The random numbers of an image depend on its sample and the epoch. The result therefore does not depend on the order of
the samples, the batch size, or an interruption of the training.

OpenCV changes the pixels in one thread, in a few milliseconds per batch. TensorFlow's operations take four times as
long, and the other cores are busy with the training.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from manyheads.inputs.base import Draws

Images = npt.NDArray[np.uint8]

ROTATION = 12.0  # degrees to either side
ZOOM = 0.15  # to either side of 1
SHIFT = 0.08  # as a share of the height and width, to either side
BRIGHTNESS = 0.12  # as a share of the full range, to either side
CONTRAST = 0.2  # to either side of 1
ERASED = (0.1, 0.3)  # side of the erased square, as a share of the height and width
ERASE_PROBABILITY = 0.5


def augment(images: Images, draws: Draws, strength: float = 1.0) -> Images:
    """Flip, rotate, zoom, shift and erase each image at random, and vary its brightness and contrast.

    Pixels from outside the image repeat its border. Hue and saturation do not change because a head may depend on them.

    Args:
        images: Shape (n, size, size, 3), uint8; not changed.
        draws: Uniform random numbers in [0, 1), shape (n, 11), float32: flip, rotation, zoom, shift to the right, shift
            down, contrast, brightness, erasing, and the side, top and left of the erased square.
        strength: Factor of the range of every change except the flip, and of the probability of erasing.

    Returns:
        Images of the same shape and dtype.
    """
    size = images.shape[1]
    flip, rotation, zoom, right, down, contrast, brightness, erased, side, top, left = draws.T.astype(np.float64)
    matrices = _matrices(
        flip < 0.5,
        _within(rotation, strength * ROTATION),
        1 + _within(zoom, strength * ZOOM),
        size * _within(right, strength * SHIFT),
        size * _within(down, strength * SHIFT),
        size,
    )
    tables = _tables(
        images, 1 + _within(contrast, strength * CONTRAST), 255 * _within(brightness, strength * BRIGHTNESS)
    )
    side = np.rint((ERASED[0] + (ERASED[1] - ERASED[0]) * side) * size).astype(int)
    top, left = (np.floor(start * (size - side + 1)).astype(int) for start in (top, left))
    changed = np.empty_like(images)
    for i, (image, target) in enumerate(zip(images, changed, strict=True)):
        cv2.warpAffine(image, matrices[i], (size, size), dst=target, borderMode=cv2.BORDER_REPLICATE)
        cv2.LUT(target, tables[i], dst=target)
        if erased[i] < strength * ERASE_PROBABILITY:
            square = target[top[i] : top[i] + side[i], left[i] : left[i] + side[i]]
            square[:] = cv2.mean(target)[:3]
    return changed


def _within(draw: npt.NDArray[np.float64], reach: float) -> npt.NDArray[np.float64]:
    return (2 * draw - 1) * reach


def _matrices(
    mirrored: npt.NDArray[np.bool_],
    degrees: npt.NDArray[np.float64],
    zoom: npt.NDArray[np.float64],
    right: npt.NDArray[np.float64],
    down: npt.NDArray[np.float64],
    size: int,
) -> npt.NDArray[np.float64]:
    """Return affine matrices about the centre of the image, shape (n, 2, 3); shifts are in pixels."""
    angle, middle = np.radians(degrees), (size - 1) / 2
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    sign = np.where(mirrored, -1.0, 1.0)
    linear = np.stack([np.stack([sign * cosine, -sine], -1), np.stack([sign * sine, cosine], -1)], axis=1)
    moved = middle + np.stack([right, down], -1)
    return np.concatenate([linear, (moved - linear.sum(axis=2) * middle)[..., None]], axis=2)


def _tables(
    images: Images, contrast: npt.NDArray[np.float64], brightness: npt.NDArray[np.float64]
) -> npt.NDArray[np.uint8]:
    """Return lookup tables of pixel values, shape (n, 256), uint8: contrast about the mean, then brightness."""
    mean = np.array([np.mean(cv2.mean(image)[:3]) for image in images])
    values = (np.arange(256) - mean[:, None]) * contrast[:, None] + (mean + brightness)[:, None]
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)
