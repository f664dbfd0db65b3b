"""A pretrained network as encoder, frozen or fine-tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeInt, model_validator

from manyheads.encoders.backbones import BACKBONES, block_of
from manyheads.encoders.base import TRUNK, ImageEncoder
from manyheads.encoders.layers.dense import set_statistics, standardized
from manyheads.encoders.published import PUBLISHED, load_weights
from manyheads.inputs import Input

if TYPE_CHECKING:
    import keras

LEAST_VARIANCE = 1e-4
"""Added to the variance of each feature, because some features are almost constant on the training samples."""

STATISTICS_SAMPLES = 2048
"""Number of training samples that mean and variance of the features are from."""


class PretrainedEncoder(ImageEncoder):
    """A pretrained network with pooled, standardized features and a hidden layer; every head gets the same features.

    Attributes:
        backbone: The network.
        weights: Name of its weights, see ``encoders.published``; ``random`` to learn from the start.
        frozen_blocks: How many blocks from the image on keep their weights, or ``all``. With ``all`` the features are
            computed once, and a training takes minutes.
        hidden: Width of the hidden layer (GELU), 0 for none. A layer for each head was measured to add nothing.
        dropout: Share of the features, and of the hidden layer's outputs, that is dropped in training.
    """

    encoder: Literal["pretrained"] = "pretrained"
    backbone: Literal["mobilenet", "efficientnet_lite0"]
    weights: Literal["face", "imagenet", "random"]
    frozen_blocks: NonNegativeInt | Literal["all"]
    hidden: NonNegativeInt
    dropout: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if self.weights != "random" and PUBLISHED[self.weights].backbone != self.backbone:
            fitting = [name for name, each in PUBLISHED.items() if each.backbone == self.backbone]
            raise ValueError(f"weights is {self.weights}; {self.backbone} takes {' or '.join([*fitting, 'random'])}")
        if self.weights == "random" and self.frozen_blocks:
            raise ValueError("frozen_blocks would keep random weights: set it to 0, or name weights")
        return self

    @property
    def origin_of_weights(self) -> Mapping[str, str]:
        return {} if self.weights == "random" else PUBLISHED[self.weights].description

    @property
    def has_frozen_trunk(self) -> bool:
        return self.frozen_blocks == "all"

    def frozen(self) -> PretrainedEncoder:
        return self if self.weights == "random" else self.model_copy(update={"frozen_blocks": "all"})

    def image_features(
        self, images: keras.KerasTensor, heads: Sequence[str], precision: str, *, folded: bool
    ) -> dict[str, keras.KerasTensor]:
        """Return the same features for every head; see ``ImageEncoder.image_features``.

        Raises:
            MachineError: The weights have not been fetched.
            IntegrityError: The file of the weights is damaged.
        """
        import keras

        maps = BACKBONES[self.backbone](images, precision)
        x = keras.layers.GlobalAveragePooling2D(dtype="float32", name=TRUNK)(maps)
        if not folded:  # an inference network gets its weights from the trained network
            self._prepare(keras.Model(images, x))
        x = standardized(x, TRUNK)
        x = keras.layers.Dropout(self.dropout, dtype="float32", name="dropout")(x)
        if self.hidden:
            x = keras.layers.Dense(self.hidden, activation="gelu", dtype="float32", name="hidden")(x)
            x = keras.layers.Dropout(self.dropout, dtype="float32", name="hidden_dropout")(x)
        return dict.fromkeys(heads, x)

    def _prepare(self, trunk: keras.Model) -> None:
        """Set the published weights, and freeze blocks."""
        weights = {} if self.weights == "random" else load_weights(self.weights)
        for layer in trunk.layers:
            if weights and layer.weights:
                layer.set_weights([weights[f"{layer.name}/kernel"], weights[f"{layer.name}/bias"]])
            if self.frozen_blocks == "all" or block_of(layer.name) < self.frozen_blocks:
                layer.trainable = False

    def adapt(
        self,
        network: keras.Model,
        inputs: Mapping[str, Input],
        arrays: Mapping[str, npt.NDArray[Any]],
        rows: npt.NDArray[np.int64],
    ) -> None:
        del inputs
        chosen = np.sort(np.random.default_rng(0).permutation(rows)[:STATISTICS_SAMPLES])
        set_statistics(network, TRUNK, self._features(network, arrays, chosen), LEAST_VARIANCE)

    def _features(
        self, network: keras.Model, arrays: Mapping[str, npt.NDArray[Any]], rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        import keras

        if TRUNK in arrays:  # computed already
            return arrays[TRUNK][rows]
        (tensor,), (images,) = network.inputs, arrays.values()
        trunk = keras.Model(tensor, network.get_layer(TRUNK).output)
        batches = np.array_split(rows, max(1, len(rows) // 64))
        return np.concatenate([np.asarray(trunk(images[batch], training=False)) for batch in batches])
