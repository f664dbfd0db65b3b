"""A photograph or another picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from manyheads.inputs import jpeg
from manyheads.inputs.base import Array, Encoded, Input

if TYPE_CHECKING:
    import keras


class ImageInput(Input):
    """A JPEG image, decoded to a square of RGB pixels.

    Attributes:
        image_size: Height and width in pixels.
        duplicate_correlation: Two images are the same photograph from this correlation of 16 x 16 greyscale on.
    """

    kind: Literal["image"] = "image"
    image_size: int = Field(ge=16, le=1024)
    duplicate_correlation: float = Field(gt=0, le=1)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.image_size, self.image_size, 3)

    @property
    def dtype(self) -> str:
        return "uint8"

    @property
    def words(self) -> str:
        return (
            f"images of {self.image_size} x {self.image_size} pixels, uint8; two are the same photograph from a correlation of "
            f"{self.duplicate_correlation:g} of 16 x 16 greyscale on, also mirrored"
        )

    def encode(self, data: bytes) -> Encoded:
        return Encoded(*jpeg.decode(data, self.image_size))

    def fingerprint(self, values: Array) -> npt.NDArray[np.uint8]:
        return jpeg.fingerprint(values)

    def tensor(self, name: str) -> keras.KerasTensor:
        import keras

        return keras.Input(self.shape, dtype="uint8", name=name)
