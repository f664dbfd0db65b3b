"""A small residual network that all heads share, designed to train fast on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, Field, PositiveInt, model_validator

from manyheads.encoders.base import ImageEncoder

if TYPE_CHECKING:
    import keras


class Trunk(BaseModel):
    """The settings of a residual trunk.

    Attributes:
        stem: Channels of each convolution before the stages; each halves the resolution.
        widths: Channels of each stage; each stage after the first halves the resolution.
        blocks: Residual blocks of each stage.
    """

    stem: tuple[PositiveInt, ...] = Field(min_length=1)
    widths: tuple[PositiveInt, ...] = Field(min_length=1)
    blocks: tuple[PositiveInt, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.widths) != len(self.blocks):
            raise ValueError(f"widths and blocks must be equally long, got {len(self.widths)} and {len(self.blocks)}")
        return self


class CompactEncoder(Trunk, ImageEncoder):
    """A residual trunk (He et al., 2016) with global average pooling; every head gets the same features.

    Attributes:
        dropout: Share of the features dropped before the heads.
    """

    encoder: Literal["compact"] = "compact"
    dropout: float = Field(ge=0, lt=1)

    def image_features(
        self, images: keras.KerasTensor, heads: Sequence[str], precision: str, *, folded: bool
    ) -> dict[str, keras.KerasTensor]:
        """Return the same pooled features for every head, width ``widths[-1]``; see ``Encoder.features``."""
        import keras

        x = residual_trunk(images, self.stem, self.widths, self.blocks, precision, folded=folded)
        x = keras.layers.Dropout(self.dropout, dtype="float32", name="dropout")(x)
        return dict.fromkeys(heads, x)


def residual_trunk(
    images: keras.KerasTensor,
    stem: Sequence[int],
    widths: Sequence[int],
    blocks: Sequence[int],
    precision: str,
    *,
    folded: bool,
    prefix: str = "",
) -> keras.KerasTensor:
    """Return the pooled features of a residual trunk, shape (batch, ``widths[-1]``), float32.

    Args:
        images: RGB images, shape (batch, height, width, 3), uint8.
        stem: See ``CompactEncoder``.
        widths: See ``CompactEncoder``.
        blocks: See ``CompactEncoder``.
        precision: Keras dtype policy of the hidden layers.
        folded: Whether to build for inference.
        prefix: Start of the layers' names.
    """
    import keras

    def convolution(
        x: keras.KerasTensor, channels: int, name: str, kernel: int = 3, strides: int = 1, relu: bool = True
    ) -> keras.KerasTensor:
        name = prefix + name
        x = keras.layers.Conv2D(
            channels, kernel, strides, padding="same", use_bias=folded, dtype=precision, name=f"{name}_conv"
        )(x)
        if not folded:
            from manyheads.encoders.layers.fused_normalization import FusedBatchNormalization

            x = FusedBatchNormalization(dtype=precision, name=f"{name}_norm")(x)
        return keras.layers.ReLU(dtype=precision, name=f"{name}_relu")(x) if relu else x

    x = keras.layers.Rescaling(1 / 127.5, -1, dtype=precision, name=f"{prefix}scaled")(images)
    for i, channels in enumerate(stem, start=1):
        x = convolution(x, channels, f"stem{i}", strides=2)
    for stage, (channels, count) in enumerate(zip(widths, blocks, strict=True), start=1):
        for block in range(1, count + 1):
            name = f"stage{stage}_block{block}"
            strides = 2 if stage > 1 and block == 1 else 1
            shortcut = x
            if x.shape[-1] != channels or strides > 1:
                shortcut = convolution(x, channels, f"{name}_shortcut", kernel=1, strides=strides, relu=False)
            x = convolution(x, channels, f"{name}_1", strides=strides)
            x = convolution(x, channels, f"{name}_2", relu=False)
            x = keras.layers.Add(dtype=precision, name=f"{prefix}{name}_add")([x, shortcut])
            x = keras.layers.ReLU(dtype=precision, name=f"{prefix}{name}_relu")(x)
    return keras.layers.GlobalAveragePooling2D(dtype="float32", name=f"{prefix}pooled")(x)
