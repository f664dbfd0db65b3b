"""Dense layers on numbers, which are standardized first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import keras

SMALLEST_VARIANCE = 1e-12
"""Added to each variance, so that a column with one value becomes 0."""


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


def set_statistics(network: keras.Model, name: str, values: npt.NDArray[Any], added_variance: float = 0.0) -> None:
    """Set the mean and the variance of ``standardized`` to those of training samples.

    Args:
        network: A network with the layer.
        name: Name of the input.
        values: The samples, shape (n, width).
        added_variance: Added to the variance of each column.
    """
    values = values.astype(np.float64)
    network.get_layer(_layer(name)).set_weights([values.mean(axis=0), values.var(axis=0) + added_variance])


def _layer(name: str) -> str:
    return f"{name}_standardized"


def dense_layers(features: keras.KerasTensor, widths: Sequence[int], prefix: str = "") -> keras.KerasTensor:
    """Return the output of dense layers with ReLU, shape (batch, ``widths[-1]``), float32."""
    import keras

    x = features
    for i, width in enumerate(widths, start=1):
        x = keras.layers.Dense(width, activation="relu", dtype="float32", name=f"{prefix}dense{i}")(x)
    return x
