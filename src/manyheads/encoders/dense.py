"""Dense layers on numbers, which are standardized first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt

from manyheads.encoders.base import Encoder, described
from manyheads.inputs import Input, NumbersInput

if TYPE_CHECKING:
    import keras

SMALLEST_VARIANCE = 1e-12
"""Added to each variance, so that a column with one value becomes 0."""


class DenseEncoder(Encoder):
    """Dense layers on the standardized numbers of all inputs side by side.

    Attributes:
        dense: Width of each layer.
        dropout: Share of the features dropped before the heads.
    """

    encoder: Literal["dense"] = "dense"
    dense: tuple[PositiveInt, ...] = Field(min_length=1)
    dropout: float = Field(ge=0, lt=1)

    def conflict_with(self, inputs: Mapping[str, Input]) -> str | None:
        if all(isinstance(one, NumbersInput) for one in inputs.values()):
            return None
        return f"takes numbers, inputs has {described(inputs)}"

    def features(
        self,
        inputs: Mapping[str, Input],
        tensors: Mapping[str, keras.KerasTensor],
        heads: Sequence[str],
        precision: str,
        *,
        folded: bool,
    ) -> dict[str, keras.KerasTensor]:
        """Return the same features for every head, width ``dense[-1]``; see ``Encoder.features``."""
        import keras

        del inputs, precision, folded
        joined = [standardized(tensor, name) for name, tensor in tensors.items()]
        x = joined[0] if len(joined) == 1 else keras.layers.Concatenate(dtype="float32", name="joined")(joined)
        x = keras.layers.Dropout(self.dropout, dtype="float32", name="dropout")(dense_layers(x, self.dense))
        return dict.fromkeys(heads, x)

    def adapt(
        self,
        network: keras.Model,
        inputs: Mapping[str, Input],
        arrays: Mapping[str, npt.NDArray[Any]],
        rows: npt.NDArray[np.int64],
    ) -> None:
        for name in inputs:
            set_statistics(network, name, arrays[name][rows])


def standardized(numbers: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Return numbers minus their mean, divided by their standard deviation; ``set_statistics`` sets the two.

    The layer is a batch normalization that does not learn, because its statistics are ordinary weights of a model.

    Args:
        numbers: Shape (batch, width), float32.
        name: Name of the input.
    """
    import keras

    return keras.layers.BatchNormalization(
        center=False, scale=False, epsilon=SMALLEST_VARIANCE, trainable=False, dtype="float32", name=_layer(name)
    )(numbers)


def set_statistics(network: keras.Model, name: str, values: npt.NDArray[Any]) -> None:
    """Set the mean and the variance of ``standardized`` to those of training samples, shape (n, width)."""
    values = values.astype(np.float64)
    network.get_layer(_layer(name)).set_weights([values.mean(axis=0), values.var(axis=0)])


def _layer(name: str) -> str:
    return f"{name}_standardized"


def dense_layers(features: keras.KerasTensor, widths: Sequence[int], prefix: str = "") -> keras.KerasTensor:
    """Return the output of dense layers with ReLU, shape (batch, ``widths[-1]``), float32."""
    import keras

    x = features
    for i, width in enumerate(widths, start=1):
        x = keras.layers.Dense(width, activation="relu", dtype="float32", name=f"{prefix}dense{i}")(x)
    return x
