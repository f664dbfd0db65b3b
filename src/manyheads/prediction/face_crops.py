"""Crops of faces as a dataset of aligned faces has them.

A crop is the similarity transform (shift, scale and rotation) that brings the landmarks of a face closest to their
median places in the crops of the dataset, in the sense of least squares (Umeyama, IEEE PAMI 1991).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from manyheads.prediction.face_detection import Face, Pixels, Points

CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])


class Calibration(NamedTuple):
    """Where the crops of a dataset have the landmarks of a face.

    Attributes:
        side: Height and width of a crop in pixels.
        landmarks: Median place of each landmark in a crop, x and y in pixels, in the order of ``Face.landmarks``.
    """

    side: int
    landmarks: tuple[tuple[float, float], ...]


CALIBRATIONS = {
    # The medians over 4,000 files, by `python benchmarks/face_crops.py calibrate`.
    "utkface": Calibration(200, ((57.2, 57.3), (137.0, 57.8), (95.6, 103.0), (61.9, 134.7), (132.0, 134.9))),
}
"""Calibrations by the name of the dataset."""


def crop_of(pixels: Pixels, face: Face, calibration: Calibration) -> Pixels:
    """Return the crop of a face; see ``crop``.

    Args:
        pixels: The upright picture, shape (height, width, 3), uint8, RGB.
        face: A face of it.
        calibration: What crops look like.
    """
    return crop(pixels, similarity(face.landmarks, np.array(calibration.landmarks)), calibration.side)


def crop(pixels: Pixels, to_crop: Points, side: int) -> Pixels:
    """Return a crop of a picture, uint8, RGB; the border of the picture is continued.

    What is larger in the picture is reduced to the side. What is smaller is not enlarged, so that the size of the crop
    tells how many pixels the face has.

    Args:
        pixels: The upright picture, shape (height, width, 3), uint8, RGB.
        to_crop: The similarity transform from the picture to the crop, shape (2, 3).
        side: Height and width of the crop in pixels, at most.
    """
    scale = float(np.sqrt(np.linalg.det(to_crop[:, :2])))  # crop pixels per picture pixel
    if scale > 1:
        smaller = max(1, round(side / scale))
        return _warped(pixels, to_crop * (smaller / side), smaller)
    # A reduced copy of the surroundings averages pixels that a transform alone would skip.
    corners = transformed(inverse(to_crop), CORNERS * side)
    height, width = pixels.shape[:2]
    left, top = np.clip(np.floor(corners.min(axis=0)).astype(int) - 2, 0, [width - 1, height - 1])
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 2, [left + 1, top + 1], [width, height])
    region = pixels[top:bottom, left:right]
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    reduced = np.asarray(cv2.resize(region, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    stretch = np.array([(right - left) / size[0], (bottom - top) / size[1]])
    # Pixel centres lie at half steps: reduced (i + 0.5) * stretch + origin = picture (i + 0.5).
    to_picture = np.array([[stretch[0], 0, left + stretch[0] / 2 - 0.5], [0, stretch[1], top + stretch[1] / 2 - 0.5]])
    return _warped(reduced, _composed(to_crop, to_picture), side)


def similarity(source: Points, target: Points) -> Points:
    """Return the similarity transform that brings points closest to others, shape (2, 3).

    Args:
        source: Shape (n, 2).
        target: Shape (n, 2).
    """
    from_mean, to_mean = source - source.mean(axis=0), target - target.mean(axis=0)
    along = (from_mean * to_mean).sum()
    across = (from_mean[:, 0] * to_mean[:, 1] - from_mean[:, 1] * to_mean[:, 0]).sum()
    linear = np.array([[along, -across], [across, along]]) / max((from_mean**2).sum(), 1e-9)
    return np.column_stack([linear, target.mean(axis=0) - linear @ source.mean(axis=0)])


def _warped(pixels: Pixels, matrix: Points, side: int) -> Pixels:
    return np.asarray(
        cv2.warpAffine(pixels, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        dtype=np.uint8,
    )


def inverse(matrix: Points) -> Points:
    """Return the transform back, shape (2, 3)."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def _composed(outer: Points, inner: Points) -> Points:
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def transformed(matrix: Points, points: Points) -> Points:
    """Return points after a transform, shape (n, 2)."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])
