"""The image decoder of training and prediction: the same bytes give the same pixels.

The decoder reads JPEG, PNG, WebP, BMP and TIFF. It rejects a damaged file with a stable code and never repairs it,
because a repaired truncated file is an image with a grey lower part.
"""

import io
import re
import warnings
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from manyheads.errors import Unreadable

Pixels = npt.NDArray[np.uint8]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""Endings of the files that are read, in lower case. The bytes of a file decide what it is, not its ending."""

MAX_PIXELS = 50_000_000
"""Largest number of pixels of an image; a small file can declare billions."""

FINGERPRINT_SIZE = 16
"""Height and width of a fingerprint in pixels."""

THUMBNAIL_QUALITY = 82

THUMBNAIL_SIDE = 160
"""Longest side of a thumbnail in pixels; a report has some 700 of them."""

_FORMATS = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "BMP": re.compile(rb"BM"),
    "TIFF": re.compile(rb"II\*\0|MM\0\*"),
}
_OTHER_FORMATS = {
    "GIF": re.compile(rb"GIF8"),
    "JPEG 2000": re.compile(rb"\0\0\0\x0cjP  "),
    "HEIF": re.compile(rb"....ftyp(?:hei|hev|mif|msf)", re.DOTALL),
    "AVIF": re.compile(rb"....ftypavi", re.DOTALL),
}
_CONVERTED = {"1": "greyscale", "L": "greyscale", "P": "palette", "CMYK": "CMYK"}
_DEPTH_16 = ("I;16", "I;16L", "I;16B", "I;16N")


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
    """Decode an image, turn it upright by its EXIF orientation and resize it to a square.

    The aspect ratio is not kept. Resizing is bilinear with antialiasing. For speed, a large JPEG is decoded at the
    smallest DCT scale that is not below the target. Greyscale, palettes, CMYK and YCCK become RGB, and 16 bits become
    8. Transparent pixels are put on white. Of several images in one file, the first is decoded.

    Args:
        data: The file's bytes.
        size: Height and width of the result in pixels.

    Raises:
        Unreadable: With code ``DECODE_UNIDENTIFIED`` (no image), ``FORMAT_UNSUPPORTED`` (another image format, or
            pixels that are no integers of at most 16 bits), ``PIXELS_LIMIT`` (over ``MAX_PIXELS``),
            ``DECODE_TRUNCATED`` or ``DECODE_FAILED`` (damaged).

    Example:
        >>> import numpy as np
        >>> data = thumbnail(np.zeros((32, 64, 3), np.uint8))
        >>> decode(data, size=16).pixels.shape
        (16, 16, 3)
    """
    return _decode(data, size)


def decode_whole(data: bytes) -> Pixels:
    """Decode an image and turn it upright as ``decode`` does, but keep its size.

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
        notes = ["first of several images"] if getattr(image, "n_frames", 1) > 1 else []
        notes += [_CONVERTED[image.mode]] if image.mode in _CONVERTED else []
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        if orientation in range(2, 9):
            ImageOps.exif_transpose(image, in_place=True)
            notes.append("rotated by EXIF")
        if orientation in range(5, 9):
            width, height = height, width
        upright, further = _as_rgb(image)
        resized = upright.resize((size, size), Image.Resampling.BILINEAR) if size else upright
    except (MemoryError, Unreadable):
        raise
    except Exception as error:  # Pillow raises a dozen types for damaged data
        raise _damaged(error) from error
    return Decoded(np.asarray(resized), "; ".join(notes + further), (width, height))


def _as_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Return an image with 8 bits a channel and without transparency, and notes on the conversion."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image, []
    if image.mode in _DEPTH_16:  # Pillow would clip at 255
        return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8)).convert("RGB"), ["16 bits"]
    if image.mode in ("I", "F"):
        raise Unreadable("FORMAT_UNSUPPORTED", "pixels of 32 bits: save it with 8 or 16 bits")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"), ["transparency"]
    return image.convert("RGB"), []


def _open(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=list(_FORMATS))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unreadable("PIXELS_LIMIT", f"more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except Exception as error:  # as in decode
        raise _damaged(error) from error
    if image.width * image.height > MAX_PIXELS:
        raise Unreadable("PIXELS_LIMIT", f"{image.width} x {image.height}: more than {MAX_PIXELS:,} pixels")
    return image


def _unidentified(data: bytes) -> Unreadable:
    if not data:
        return Unreadable("DECODE_UNIDENTIFIED", "the file is empty")
    for name, start in _FORMATS.items():
        if start.match(data):
            return Unreadable("DECODE_FAILED", f"a {name} whose header is damaged or of a kind that is not read")
    for name, start in _OTHER_FORMATS.items():
        if start.match(data):
            return Unreadable("FORMAT_UNSUPPORTED", f"{name} is not read: save it as JPEG or PNG")
    return Unreadable("DECODE_UNIDENTIFIED", "no image")


def _damaged(error: Exception) -> Unreadable:
    reason = " ".join(str(error).split()) or type(error).__name__
    return Unreadable("DECODE_TRUNCATED" if "truncated" in reason.lower() else "DECODE_FAILED", reason)


def fingerprint(pixels: Pixels) -> Pixels:
    """Return a small greyscale copy of a decoded image, shape (16, 16), uint8, for the search of near duplicates."""
    grey = Image.fromarray(pixels).convert("L")
    return np.asarray(grey.resize((FINGERPRINT_SIZE, FINGERPRINT_SIZE), Image.Resampling.BOX))


def thumbnail(pixels: Pixels) -> bytes:
    """Return a decoded image as a JPEG, made smaller if its longer side has more than ``THUMBNAIL_SIDE`` pixels."""
    factor = THUMBNAIL_SIDE / max(pixels.shape[:2])
    if factor < 1:
        pixels = np.asarray(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
    _, encoded = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, THUMBNAIL_QUALITY])
    return encoded.tobytes()
