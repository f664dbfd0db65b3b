"""What every encoder offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from manyheads.inputs import ImageInput, Input

if TYPE_CHECKING:
    import keras


class Encoder(BaseModel, ABC):
    """Builds the part of the model between the inputs and the heads' output layers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str

    @abstractmethod
    def refuse(self, inputs: Mapping[str, Input]) -> str | None:
        """Return why these inputs do not fit, or None if they do."""

    @abstractmethod
    def features(
        self,
        inputs: Mapping[str, Input],
        tensors: Mapping[str, keras.KerasTensor],
        heads: Sequence[str],
        precision: str,
        *,
        folded: bool,
    ) -> dict[str, keras.KerasTensor]:
        """Return the features of each head, shape (batch, width), float32.

        Args:
            inputs: What the inputs are, by name; ``refuse`` had nothing against them.
            tensors: The inputs themselves, as ``Input.tensor`` gives them.
            heads: Names of the heads.
            precision: Keras dtype policy of the hidden layers, ``float32`` or ``mixed_bfloat16``.
            folded: Build for inference: built-in layers alone, batch normalisation folded into the convolutions.
                An encoder that has nothing to fold builds the same network both times.
        """


class ImageEncoder(Encoder):
    """An encoder of one image."""

    def refuse(self, inputs: Mapping[str, Input]) -> str | None:
        if len(inputs) == 1 and all(isinstance(one, ImageInput) for one in inputs.values()):
            return None
        return f"takes one image, inputs has {described(inputs)}"

    def features(
        self,
        inputs: Mapping[str, Input],
        tensors: Mapping[str, keras.KerasTensor],
        heads: Sequence[str],
        precision: str,
        *,
        folded: bool,
    ) -> dict[str, keras.KerasTensor]:
        """Return the features of the image; see ``Encoder.features``."""
        del inputs
        (images,) = tensors.values()
        return self.image_features(images, heads, precision, folded=folded)

    @abstractmethod
    def image_features(
        self, images: keras.KerasTensor, heads: Sequence[str], precision: str, *, folded: bool
    ) -> dict[str, keras.KerasTensor]:
        """Return the features of each head for uint8 images, shape (batch, height, width, 3), RGB."""


def described(inputs: Mapping[str, Input]) -> str:
    """Return the inputs in words, for messages."""
    return ", ".join(f"{name} ({getattr(one, 'kind', type(one).__name__)})" for name, one in inputs.items())
