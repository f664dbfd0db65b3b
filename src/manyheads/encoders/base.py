"""What every encoder offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import keras


class Encoder(BaseModel, ABC):
    """Builds the part of the model between the images and the heads' output layers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def features(
        self, images: keras.KerasTensor, heads: Sequence[str], precision: str, *, folded: bool
    ) -> dict[str, keras.KerasTensor]:
        """Return the features of each head, shape (batch, width), float32.

        Args:
            images: uint8 images, shape (batch, height, width, 3), RGB.
            heads: Names of the heads.
            precision: Keras dtype policy of the hidden layers, ``float32`` or ``mixed_bfloat16``.
            folded: Build for inference: built-in layers alone, batch normalisation folded into the convolutions.
                An encoder that has nothing to fold builds the same network both times.
        """
