"""From a photograph to decoded crops of its faces, as the work of a decoding process."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image

from manyheads.errors import Unreadable
from manyheads.inputs import Input
from manyheads.inputs.image_files import decode_whole
from manyheads.prediction.face_crops import Calibration, crop_of
from manyheads.prediction.face_detection import Face, Pixels, detect
from manyheads.preprocessing.decoding import Raw, Refused, Sample, decode


class Found(NamedTuple):
    """A face and its decoded crop, or the crop's refusal."""

    face: Face
    outcome: Sample | Refused


def find(kinds: Mapping[str, Input], calibration: Calibration, chunk: Sequence[Raw]) -> list[list[Found] | Refused]:
    """Return the faces of each picture from left to right, or why the picture has none: the work of ``in_processes``.

    A crop takes the way of any file: it is encoded as a picture and read by the input.

    Args:
        kinds: The model's only input by name.
        calibration: What a crop looks like.
        chunk: Pictures whose data are the bytes of the input by name, or the OSError of reading them.
    """
    return [_find(kinds, calibration, picture) for picture in chunk]


def _find(kinds: Mapping[str, Input], calibration: Calibration, picture: Raw) -> list[Found] | Refused:
    (name,) = kinds
    if isinstance(picture.data, OSError):
        return Refused(picture.row, "IO_ERROR", picture.data.strerror or str(picture.data))
    try:
        pixels = decode_whole(picture.data[name])
    except Unreadable as problem:
        return Refused(picture.row, problem.code, problem.reason)
    found = []
    for face in detect(pixels):
        encoded = _encoded(crop_of(pixels, face, calibration))
        found.append(Found(face, decode(kinds, [Raw(picture.row, {name: encoded})])[0]))
    return found or Refused(picture.row, "NO_FACE", "no face was found")


def _encoded(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "BMP")  # keeps the pixels and takes no time
    return file.getvalue()
