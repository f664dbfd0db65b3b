"""An image as input."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from manyheads.inputs import augmentation, image_files
from manyheads.inputs.base import Array, Draws, Encoded, Input, Rectangle

if TYPE_CHECKING:
    import keras

SHORTER_SIDE = "shorter side in pixels"
ASPECT_RATIO = "aspect ratio"
CONTRAST = "contrast"
FACTORS = {SHORTER_SIDE: (0.5, 2.0), ASPECT_RATIO: (1 / 1.1, 1.1), CONTRAST: (0.5, 1.5)}
"""How far a property may be below and above those of the training subset, by its name. The aspect ratio is width by
height of the upright picture; the contrast is 0 for one colour, see ``_contrast``."""

ALMOST_ONE_COLOUR = 4.0
"""Contrast below which a picture gets a note: no one can see a face in it. The least in UTKFace is 19."""


class ImageInput(Input):
    """An image, decoded to a square of RGB pixels, uint8.

    Attributes:
        image_size: Height and width in pixels.
        duplicate_correlation: Smallest correlation of the 16 x 16 greyscale copies of near duplicates, one of which may
            be mirrored.
    """

    TOWER: ClassVar[str] = "image"
    FILE_SUFFIXES: ClassVar[tuple[str, ...]] = image_files.SUFFIXES
    AUGMENTATION_DRAWS: ClassVar[int] = 11
    HAS_MIRROR_IMAGE: ClassVar[bool] = True
    CAN_MIX: ClassVar[bool] = True
    CAN_PASTE: ClassVar[bool] = True

    kind: Literal["image"] = "image"
    image_size: int = Field(ge=16, le=1024)
    duplicate_correlation: float = Field(gt=0, le=1)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.image_size, self.image_size, 3)

    @property
    def dtype(self) -> str:
        return "uint8"

    def encode(self, data: bytes) -> Encoded:
        pixels, note, (width, height) = image_files.decode(data, self.image_size)
        contrast = _contrast(pixels)
        properties = {
            SHORTER_SIDE: min(width, height),
            ASPECT_RATIO: round(width / height, 4),
            CONTRAST: contrast,
        }
        quality = "almost one colour" if contrast < ALMOST_ONE_COLOUR else ""
        return Encoded(pixels, "; ".join(filter(None, (note, quality))), properties)

    @property
    def example(self) -> bytes:
        return cv2.imencode(".png", np.zeros(self.shape, np.uint8))[1].tobytes()

    @property
    def instructions(self) -> str:
        side = self.image_size
        return (
            f"a picture of {side} x {side} pixels, RGB, 0 to 255: decoded (a JPEG at the smallest DCT scale that is "
            "not below this size: Pillow's draft), turned upright by its EXIF orientation, transparent pixels on "
            "white, resized without keeping the aspect ratio, bilinear with antialiasing (Pillow's BILINEAR)"
        )

    def usual_range(self, name: str, low: float, high: float) -> tuple[float, float]:
        less, more = FACTORS[name]
        return low * less, high * more

    def tensor(self, name: str) -> keras.KerasTensor:
        import keras

        return keras.Input(self.shape, dtype="uint8", name=name)

    def fingerprint(self, values: Array) -> npt.NDArray[np.uint8]:
        return image_files.fingerprint(values)

    @property
    def near_duplicate_correlation(self) -> float:
        return self.duplicate_correlation

    def augment(self, values: Array, draws: Draws, strength: float) -> Array:
        """Return the images with random changes; see ``augmentation.augment``."""
        return augmentation.augment(values, draws, strength)

    def paste(self, values: Array, place: Rectangle) -> Array:
        top, bottom, left, right = (round(self.image_size * edge) for edge in place)
        changed = values.copy()
        changed[:, top:bottom, left:right] = values[::-1, top:bottom, left:right]
        return changed

    def mirror(self, tensor: keras.KerasTensor) -> keras.KerasTensor:
        """Return the images with left and right exchanged."""
        import keras

        return keras.ops.flip(tensor, axis=2)

    def is_feature_map(self, output: keras.KerasTensor) -> bool:
        return len(output.shape) == 1 + len(self.shape)  # batch, height, width, channels

    def thumbnails(self, values: Array) -> list[bytes]:
        return [image_files.thumbnail(pixels) for pixels in values]


def _contrast(pixels: Array) -> float:
    """Return the largest standard deviation of a colour channel over the pixels, from 0 to 127.5."""
    return round(float(cv2.meanStdDev(pixels)[1].max()), 2)
