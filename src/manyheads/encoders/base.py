"""The interface of all encoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from manyheads.inputs import ImageInput, Input

if TYPE_CHECKING:
    import keras

TRUNK = "trunk-output"  # no input can have this name
"""Name of the layer whose output are the features of a pretrained network. If no layer before it learns, a training
computes them once."""


class Encoder(BaseModel, ABC):
    """The part of the model between the inputs and the heads' output layers.

    An encoder implements ``conflict_with`` and ``features``; an encoder of one image extends ``ImageEncoder`` instead.

    Attributes:
        encoder: Name of the encoder, or a reference to a class of an extension.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str

    @property
    def origin_of_weights(self) -> Mapping[str, str]:
        """Where the initial weights come from, by topic, for the model card; empty if they are random."""
        return {}

    @property
    def has_frozen_trunk(self) -> bool:
        """Whether no layer up to ``TRUNK`` learns."""
        return False

    def frozen(self) -> Encoder:
        """Return this encoder with all pretrained weights frozen; an encoder without such weights returns itself."""
        return self

    @abstractmethod
    def conflict_with(self, inputs: Mapping[str, Input]) -> str | None:
        """Return why the encoder cannot take these inputs, or None if it can."""

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
            inputs: The inputs by name, without conflict.
            tensors: The symbolic tensor of each input, from ``Input.tensor``.
            heads: Names of the heads.
            precision: Keras dtype policy of the hidden layers, ``float32`` or ``mixed_bfloat16``.
            folded: Whether to build for inference: only built-in layers, batch normalization folded into the
                convolutions. An encoder without such layers builds the same network in both cases.
        """

    def adapt(
        self,
        network: keras.Model,
        inputs: Mapping[str, Input],
        arrays: Mapping[str, npt.NDArray[Any]],
        rows: npt.NDArray[np.int64],
    ) -> None:
        """Set the weights that follow from the training inputs and are not learned; there are none by default.

        Args:
            network: A network with the layers of ``features``.
            inputs: The inputs by name.
            arrays: All packed samples of each input, shape (n_packed, ...).
            rows: The rows of the training samples.
        """
        del network, inputs, arrays, rows


class ImageEncoder(Encoder):
    """Base of encoders that take one image; they implement ``image_features``."""

    def conflict_with(self, inputs: Mapping[str, Input]) -> str | None:
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
        """Return the features of each head, shape (batch, width), float32; see ``Encoder.features``.

        Args:
            images: RGB images, shape (batch, height, width, 3), uint8.
            heads: Names of the heads.
            precision: Keras dtype policy of the hidden layers.
            folded: Whether to build for inference.
        """


def described(inputs: Mapping[str, Input]) -> str:
    """Return the names and kinds of inputs as text for messages."""
    return ", ".join(f"{name} ({one.kind})" for name, one in inputs.items())
