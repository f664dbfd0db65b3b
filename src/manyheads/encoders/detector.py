"""Shared convolutions, and dense layers of each head's own on the whole map: where something is matters here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from manyheads.encoders.base import ImageEncoder

if TYPE_CHECKING:
    import keras


class DetectorEncoder(ImageEncoder):
    """Convolutions with pooling that all heads share; then, for each head, a dense layer on the flattened map.

    Attributes:
        filters: Channels of each convolution.
        pool: Height and width that a pooling makes one of.
        dense: Width of each head's layer.
    """

    encoder: Literal["detector"] = "detector"
    filters: tuple[PositiveInt, ...] = Field(min_length=1)
    pool: PositiveInt
    dense: dict[str, PositiveInt]

    def image_features(
        self, images: keras.KerasTensor, heads: Sequence[str], precision: str, *, folded: bool
    ) -> dict[str, keras.KerasTensor]:
        """Return features of each head's own; see ``Encoder.features``."""
        import keras

        del folded
        if missing := set(heads) - set(self.dense):
            raise ValueError(f"model.dense has no width for {', '.join(sorted(missing))}")
        x = keras.layers.Rescaling(1 / 127.5, -1, dtype=precision, name="scaled")(images)
        for i, width in enumerate(self.filters, start=1):
            x = keras.layers.Conv2D(width, 3, activation="relu", dtype=precision, name=f"conv{i}")(x)
            x = keras.layers.MaxPooling2D(self.pool, dtype=precision, name=f"pool{i}")(x)
        x = keras.layers.Flatten(dtype=precision, name="flat")(x)
        return {
            head: keras.layers.Dense(self.dense[head], activation="relu", dtype="float32", name=f"{head}_dense")(x)
            for head in heads
        }
