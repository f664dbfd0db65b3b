"""An encoder for the location of objects: shared convolutions and a dense layer on the whole map for each head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from manyheads.encoders.base import ImageEncoder

if TYPE_CHECKING:
    import keras


class DetectorEncoder(ImageEncoder):
    """Shared convolutions with pooling, then a dense layer on the flattened feature map for each head.

    Attributes:
        filters: Channels of each convolution.
        pool: Height and width of the pooling window.
        dense: Width of the dense layer of each head, by name, or one width for all heads.
    """

    encoder: Literal["detector"] = "detector"
    filters: tuple[PositiveInt, ...] = Field(min_length=1)
    pool: PositiveInt
    dense: dict[str, PositiveInt] | PositiveInt

    def image_features(
        self, images: keras.KerasTensor, heads: Sequence[str], precision: str, *, folded: bool
    ) -> dict[str, keras.KerasTensor]:
        """Return the features of each head's dense layer; see ``ImageEncoder.image_features``.

        Raises:
            ValueError: ``dense`` lacks a head, or the image is too small for the pooling.
        """
        import keras

        del folded
        widths = dict.fromkeys(heads, self.dense) if isinstance(self.dense, int) else self.dense
        if missing := set(heads) - set(widths):
            raise ValueError(f"model.dense has no width for {', '.join(sorted(missing))}")
        x = keras.layers.Rescaling(1 / 127.5, -1, dtype=precision, name="scaled")(images)
        for i, width in enumerate(self.filters, start=1):
            x = keras.layers.Conv2D(width, 3, activation="relu", dtype=precision, name=f"conv{i}")(x)
            x = keras.layers.MaxPooling2D(self.pool, dtype=precision, name=f"pool{i}")(x)
        x = keras.layers.Flatten(dtype=precision, name="flat")(x)
        return {
            head: keras.layers.Dense(widths[head], activation="relu", dtype="float32", name=f"{head}_dense")(x)
            for head in heads
        }
