"""Features of a frozen trunk, computed once for all samples of a training.

The layers after the trunk then learn on the features, as they would above the trunk, but in seconds an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from manyheads.config.schema import TrainConfig
from manyheads.data.subsets import Subset
from manyheads.encoders.base import TRUNK, Encoder
from manyheads.inputs import Input, NumbersInput
from manyheads.inputs.base import Array, Draws
from manyheads.modeling.inference import traced
from manyheads.runtime.progress import track
from manyheads.training.fingerprint import precision_of

if TYPE_CHECKING:
    import keras

VIEWS = 5
"""Number of augmented views of each training sample, beside the sample itself."""

BATCH = 64


class FeatureViews(NumbersInput):
    """The features of several views of a sample; a training takes one of the views at random in each epoch."""

    AUGMENTATION_DRAWS: ClassVar[int] = 1

    kind: Literal["feature_views"] = "feature_views"  # type: ignore[assignment]

    def augment(self, values: Array, draws: Draws, strength: float) -> Array:
        """Return the features of one view of each sample, shape (n, width).

        Args:
            values: Shape (n, views, width), float32.
            draws: Shape (n, 1).
            strength: Not used, because it has shaped the views.
        """
        del strength
        views = (draws[:, 0] * values.shape[1]).astype(np.int64)
        return np.asarray(values[np.arange(len(values)), views])


def computed_once(
    encoder: Encoder, inputs: Mapping[str, Input], settings: TrainConfig, seed: int, train: Subset, validation: Subset
) -> tuple[Subset, Subset]:
    """Return the subsets with features as their only input; unchanged if the encoder has no frozen trunk.

    Args:
        encoder: The encoder.
        inputs: The inputs by name.
        settings: The settings of the training. With augmentation, training samples have ``1 + VIEWS`` views, of which
            the first is the sample itself.
        seed: Seed of the views.
        train: The training subset.
        validation: The validation subset, which has no views.

    Raises:
        ManyheadsError: The encoder's weights cannot be had.
    """
    if not encoder.has_frozen_trunk:
        return train, validation
    trunk = _trunk(encoder, inputs, precision_of(settings))
    views = [_features(trunk, train, 0.0, seed, 0)]
    if settings.augment:
        views += [_features(trunk, train, settings.augment, seed, view) for view in range(1, VIEWS + 1)]
    of_train = np.stack(views, axis=1) if settings.augment else views[0]
    return _with_features(train, of_train), _with_features(validation, _features(trunk, validation, 0.0, seed, 0))


def _trunk(encoder: Encoder, inputs: Mapping[str, Input], precision: str) -> keras.Model:
    import keras

    tensors = {name: kind.tensor(name) for name, kind in inputs.items()}
    features = encoder.features(inputs, tensors, ["head"], precision, folded=False)["head"]
    layer = keras.Model(list(tensors.values()), features).get_layer(TRUNK)
    return keras.Model(list(tensors.values()), {TRUNK: layer.output})


def _features(trunk: keras.Model, subset: Subset, strength: float, seed: int, view: int) -> Array:
    compute = traced(trunk)
    draws = [
        np.random.default_rng([seed, view]).random((len(subset), kind.AUGMENTATION_DRAWS), np.float32)
        for kind in subset.kinds.values()
    ]
    features = np.empty((len(subset), trunk.output[TRUNK].shape[-1]), dtype=np.float32)
    name = f"features, view {view}" if view else "features"
    for start in track(range(0, len(subset), BATCH), name, unit="batches"):
        chosen = slice(start, start + BATCH)
        batch = {name: values[subset.rows[chosen]] for name, values in subset.inputs.items()}
        if strength:
            batch = {
                name: kind.augment(batch[name], drawn[chosen], strength)
                for (name, kind), drawn in zip(subset.kinds.items(), draws, strict=True)
            }
        features[chosen] = compute(batch)[TRUNK].numpy()
    return features


def _with_features(subset: Subset, features: Array) -> Subset:
    kind = FeatureViews(width=features.shape[-1])
    return replace(subset, inputs={TRUNK: features}, rows=np.arange(len(subset)), kinds={TRUNK: kind})
