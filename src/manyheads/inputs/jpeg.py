"""The image decoder of training and prediction: the same bytes give the same pixels.

The decoder reads only JPEG. It rejects a damaged file with a stable code and never repairs it, because a repaired
truncated file is an image with a grey lower part.
"""

import io
import warnings
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from manyheads.errors import Unreadable

Pixels = npt.NDArray[np.uint8]

SUFFIXES = (".jpg", ".jpeg")
"""Endings of the files that are read, in lower case."""

MAX_PIXELS = 50_000_000
"""Largest number of pixels of an image; a small file can declare billions."""

FINGERPRINT_SIZE = 16
"""Height and width of a fingerprint in pixels."""

THUMBNAIL_QUALITY = 82

_JPEG = b"\xff\xd8\xff"
_OTHER_FORMATS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
}
_CONVERTED = {"L": "greyscale", "CMYK": "CMYK"}


class Decoded(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: Shape (size, size, 3), uint8, RGB.
        note: Remark on any conversion.
        size: Width and height of the upright image in pixels, before it was resized.
    """

    pixels: Pixels
    note: str
    size: tuple[int, int]


def decode(data: bytes, size: int) -> Decoded:
    """Decode a JPEG, turn it upright by its EXIF orientation and resize it to a square.

    The aspect ratio is not kept. Resizing is bilinear with antialiasing. For speed, a large image is decoded at the
    smallest DCT scale that is not below the target. Greyscale, CMYK and YCCK become RGB.

    Args:
        data: The file's bytes.
        size: Height and width of the result in pixels.

    Raises:
        Unreadable: With code ``DECODE_UNIDENTIFIED`` (no image), ``FORMAT_MISMATCH`` (another image format),
            ``FORMAT_UNSUPPORTED`` (several images in one file), ``PIXELS_LIMIT`` (over ``MAX_PIXELS``),
            ``DECODE_TRUNCATED`` or ``DECODE_FAILED`` (damaged).

    Example:
        >>> import numpy as np
        >>> data = thumbnail(np.zeros((32, 64, 3), np.uint8))
        >>> decode(data, size=16).pixels.shape
        (16, 16, 3)
    """
    return _decode(data, size)


def decode_whole(data: bytes) -> Pixels:
    """Decode a JPEG and turn it upright as ``decode`` does, but keep its size.

    Args:
        data: The file's bytes.

    Returns:
        Shape (height, width, 3), uint8, RGB.

    Raises:
        Unreadable: As in ``decode``.
    """
    return _decode(data, None).pixels


def _decode(data: bytes, size: int | None) -> Decoded:
    image = _open(data)
    try:
        width, height = image.size
        if size and image.mode == "RGB":
            image.draft("RGB", (size, size))
        image.load()
        notes = [_CONVERTED[image.mode]] if image.mode in _CONVERTED else []
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        if orientation in range(2, 9):
            ImageOps.exif_transpose(image, in_place=True)
            notes.append("rotated by EXIF")
        if orientation in range(5, 9):
            width, height = height, width
        upright = image if image.mode == "RGB" else image.convert("RGB")
        resized = upright.resize((size, size), Image.Resampling.BILINEAR) if size else upright
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises a dozen types for damaged data
        raise _damaged(error) from error
    return Decoded(np.asarray(resized), "; ".join(notes), (width, height))


def _open(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=["JPEG"])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unreadable("PIXELS_LIMIT", f"more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except Exception as error:  # as in decode
        raise _damaged(error) from error
    if image.format != "JPEG":
        raise Unreadable("FORMAT_UNSUPPORTED", f"{image.format}: several images in one file")
    if image.width * image.height > MAX_PIXELS:
        raise Unreadable("PIXELS_LIMIT", f"{image.width} x {image.height}: more than {MAX_PIXELS:,} pixels")
    return image


def _unidentified(data: bytes) -> Unreadable:
    if not data:
        return Unreadable("DECODE_UNIDENTIFIED", "the file is empty")
    if data.startswith(_JPEG):
        return Unreadable("DECODE_FAILED", "a JPEG whose header is damaged or of a kind that is not read")
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return Unreadable("FORMAT_MISMATCH", "WebP, not JPEG")
    for magic, name in _OTHER_FORMATS.items():
        if data.startswith(magic):
            return Unreadable("FORMAT_MISMATCH", f"{name}, not JPEG")
    return Unreadable("DECODE_UNIDENTIFIED", "no image")


def _damaged(error: Exception) -> Unreadable:
    reason = " ".join(str(error).split()) or type(error).__name__
    return Unreadable("DECODE_TRUNCATED" if "truncated" in reason.lower() else "DECODE_FAILED", reason)


def fingerprint(pixels: Pixels) -> Pixels:
    """Return a small greyscale copy of a decoded image, shape (16, 16), uint8, for the search of near duplicates."""
    grey = Image.fromarray(pixels).convert("L")
    return np.asarray(grey.resize((FINGERPRINT_SIZE, FINGERPRINT_SIZE), Image.Resampling.BOX))


def thumbnail(pixels: Pixels) -> bytes:
    """Return a decoded image as a JPEG of the same size."""
    _, encoded = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, THUMBNAIL_QUALITY])
    return encoded.tobytes()
