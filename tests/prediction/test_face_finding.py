"""Detection and crops of faces, on UTKFace's own files where they are on this machine."""

import io

import numpy as np
import pytest
from PIL import Image

import real
from manyheads.datasets import archives
from manyheads.inputs import ImageInput
from manyheads.prediction import face_crops as crops
from manyheads.prediction import face_detection as detection
from manyheads.prediction.face_crops import CALIBRATIONS
from manyheads.prediction.face_finding import find
from manyheads.preprocessing.decoding import Raw, Refused

needs_archive = pytest.mark.skipif(real.ARCHIVE is None, reason=real.SKIP_REASON)
INPUT = {"image": ImageInput(image_size=64, duplicate_correlation=1)}
UTKFACE = CALIBRATIONS["utkface"]


def jpeg(pixels, orientation=None):
    file, exif = io.BytesIO(), Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


def without_a_face():
    y, x = np.mgrid[0:600, 0:800]
    noise = np.random.default_rng(0).integers(0, 40, (600, 800))
    return np.stack([x // 4, y // 3, (x + y) // 7 + noise], axis=2).astype(np.uint8)


def find_in(data):
    (outcome,) = find(INPUT, UTKFACE, [Raw(0, data if isinstance(data, OSError) else {"image": data})])
    return outcome


def test_what_has_no_face_or_cannot_be_read_is_refused_with_a_reason():
    assert find_in(jpeg(without_a_face())) == Refused(0, "NO_FACE", "no face was found")
    assert find_in(b"<html>").code == "DECODE_UNIDENTIFIED"
    assert find_in(OSError(13, "Permission denied")) == Refused(0, "IO_ERROR", "Permission denied")


def test_tiny_and_narrow_pictures_are_searched():
    for shape in ((1, 1, 3), (5000, 2, 3), (3, 4000, 3)):
        assert detection.detect(np.full(shape, 200, np.uint8)) == []


@pytest.fixture(scope="module")
def photographs():
    """Return a few files of the archive as pixels, spread over it."""
    chosen = [path for path in archives.names(real.ARCHIVE) if path.endswith(".jpg")][500::2000]
    wanted = set(chosen)
    read = {path: data for path, data in archives.selected(real.ARCHIVE, wanted.__contains__) if path in wanted}
    return [np.asarray(Image.open(io.BytesIO(read[path]))) for path in chosen]


@pytest.mark.slow
@needs_archive
def test_the_calibration_is_that_of_utkface(photographs):
    """The crop of a face that is found in a file is the file, but for the scatter of the landmarks."""
    found = [detection.detect(pixels) for pixels in photographs]
    assert all(len(faces) == 1 for faces in found)
    shifts = []
    for (face,) in found:
        to_crop = crops.similarity(face.landmarks, np.array(UTKFACE.landmarks))
        shifts.append(crops.transformed(to_crop, np.array([[100.0, 100.0]]))[0] - 100)
        assert np.sqrt(np.linalg.det(to_crop[:, :2])) == pytest.approx(1, abs=0.2)
    assert np.abs(np.median(shifts, axis=0)).max() < 4


@pytest.mark.slow
@needs_archive
def test_faces_in_a_photograph_are_found_from_left_to_right_and_give_their_crops(photographs):
    picture = without_a_face().repeat(2, axis=0).repeat(2, axis=1)
    places = ((1100, 700, 300), (200, 300, 400), (750, 150, 200))
    for pixels, (left, top, side) in zip(photographs, places, strict=False):
        picture[top : top + side, left : left + side] = np.asarray(Image.fromarray(pixels).resize((side, side)))
    upright = find_in(jpeg(picture))
    turned = find_in(jpeg(np.ascontiguousarray(np.rot90(picture)), orientation=6))
    for found in (upright, turned):
        assert len(found) == 3
        for each, index in zip(found, (1, 2, 0), strict=True):
            left, top, side = places[index]
            place = each.face.box
            assert left <= place[0] + place[2] / 2 <= left + side
            assert top <= place[1] + place[3] / 2 <= top + side
            # The smallest has fewer pixels than a crop of UTKFace, and is not enlarged.
            assert each.outcome.properties["image"]["shorter side in pixels"] == pytest.approx(min(200, side), rel=0.15)
            original = INPUT["image"].encode(jpeg(photographs[index]))[0].astype(float)
            crop = each.outcome.inputs["image"].astype(float)
            assert np.corrcoef(original.ravel(), crop.ravel())[0, 1] > 0.75
