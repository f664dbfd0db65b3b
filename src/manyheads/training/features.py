"""Features of a frozen trunk, computed once for all samples of a training.

The layers after the trunk then learn on the features, as they would above the trunk, but in seconds an epoch. Features
of augmented samples beside them were measured to add nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from manyheads.data.subsets import Subset
from manyheads.encoders.base import TRUNK, Encoder
from manyheads.inputs import Input, NumbersInput
from manyheads.modeling.inference import traced
from manyheads.runtime.progress import track

if TYPE_CHECKING:
    import keras

BATCH = 64


def computed_once(
    encoder: Encoder, inputs: Mapping[str, Input], precision: str, train: Subset, validation: Subset
) -> tuple[Subset, Subset]:
    """Return the subsets with features as their only input; unchanged if the encoder has no frozen trunk.

    Args:
        encoder: The encoder.
        inputs: The inputs by name.
        precision: Keras dtype policy of the trunk.
        train: The training subset.
        validation: The validation subset.

    Raises:
        ManyheadsError: The encoder's weights cannot be had.
    """
    if not encoder.has_frozen_trunk:
        return train, validation
    trunk = _trunk(encoder, inputs, precision)
    return _with_features(trunk, train, "training"), _with_features(trunk, validation, "validation")


def _trunk(encoder: Encoder, inputs: Mapping[str, Input], precision: str) -> keras.Model:
    import keras

    tensors = {name: kind.tensor(name) for name, kind in inputs.items()}
    features = encoder.features(inputs, tensors, ["head"], precision, folded=False)["head"]
    layer = keras.Model(list(tensors.values()), features).get_layer(TRUNK)
    return keras.Model(list(tensors.values()), {TRUNK: layer.output})


def _with_features(trunk: keras.Model, subset: Subset, name: str) -> Subset:
    compute = traced(trunk)
    features = np.empty((len(subset), trunk.output[TRUNK].shape[-1]), dtype=np.float32)
    for start in track(range(0, len(subset), BATCH), f"features of the {name} subset", unit="batches"):
        rows = subset.rows[start : start + BATCH]
        batch = {name: values[rows] for name, values in subset.inputs.items()}
        features[start : start + len(rows)] = compute(batch)[TRUNK].numpy()
    kind = NumbersInput(width=features.shape[-1])
    return replace(subset, inputs={TRUNK: features}, rows=np.arange(len(subset)), kinds={TRUNK: kind})
