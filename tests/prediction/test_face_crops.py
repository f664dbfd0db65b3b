"""The geometry of crops, on drawn pictures."""

import cv2
import numpy as np
import pytest

from manyheads.prediction import face_crops as crops
from manyheads.prediction.face_crops import CALIBRATIONS
from manyheads.prediction.face_detection import Face

UTKFACE = CALIBRATIONS["utkface"]
LANDMARKS = np.array(UTKFACE.landmarks)


def face_at(matrix):
    """Return a face whose landmarks are those of a crop after a transform."""
    return Face(0.0, 0.0, 1.0, 1.0, crops.transformed(matrix, LANDMARKS), 1.0)


def drawn():
    """Return a crop with smooth colours, so that a shift of a pixel shows."""
    y, x = np.mgrid[0:200, 0:200]
    return np.stack([x, y, 127 + 100 * np.sin(x / 15) * np.cos(y / 15)], axis=2).astype(np.uint8)


@pytest.mark.parametrize("side", [60, 150, 200, 700])
@pytest.mark.parametrize("turn", [0, 20])
def test_a_crop_that_is_pasted_into_a_picture_comes_back(side, turn):
    scale = side / 200
    matrix = cv2.getRotationMatrix2D((100, 100), turn, scale)
    matrix[:, 2] += [500, 350]
    picture = cv2.warpAffine(cv2.GaussianBlur(drawn(), (0, 0), max(0.1, 0.4 / scale)), matrix, (1200, 900))
    found = crops.crop_of(picture, face_at(matrix), UTKFACE)
    expected = min(200, side)
    assert found.shape == (expected, expected, 3)
    apart = np.abs(cv2.resize(found, (200, 200)).astype(int) - drawn())[10:-10, 10:-10]
    assert apart.mean() < 2.5
    assert np.quantile(apart, 0.99) < 10


def test_a_crop_beyond_the_picture_continues_its_border():
    picture = np.full((100, 100, 3), 77, np.uint8)
    matrix = np.array([[1.0, 0, -120], [0, 1.0, -120]])
    assert (crops.crop_of(picture, face_at(matrix), UTKFACE) == 77).all()


def test_the_similarity_is_the_closest_one():
    matrix = np.array([[1.5, -0.5, 20], [0.5, 1.5, -7]])
    target = crops.transformed(matrix, LANDMARKS)
    np.testing.assert_allclose(crops.similarity(LANDMARKS, target), matrix, atol=1e-9)
    noisy = target + np.random.default_rng(0).normal(0, 2, target.shape)
    best = crops.similarity(LANDMARKS, noisy)

    def error(transform):
        return ((crops.transformed(transform, LANDMARKS) - noisy) ** 2).sum()

    for row, column in np.ndindex(2, 3):
        moved = best.copy()
        moved[row, column] += 0.01
        if column < 2:  # keeps it a similarity
            moved[1 - row, 1 - column] += 0.01 if row == column else -0.01
        assert error(moved) > error(best)
