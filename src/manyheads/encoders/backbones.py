"""The networks of published weights, as plain Keras layers; batch normalization is part of their convolutions.

A layer of a block is named after it, such as ``block3_depthwise``; block 0 is the first convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

Backbone = Callable[["keras.KerasTensor", str], "keras.KerasTensor"]
"""Maps RGB images, shape (batch, height, width, 3), uint8, and a dtype policy to features, shape (batch, h, w, c)."""

# Output channels and stride of each depthwise separable block.
MOBILENET = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
# Repeats, kernel, stride of the first, expansion and output channels of each stage of inverted residual blocks.
EFFICIENTNET_LITE0 = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip


def mobilenet(images: keras.KerasTensor, precision: str) -> keras.KerasTensor:
    """Return the features of MobileNetV1 (Howard et al., 2017), 1,024 channels.

    The images minus the mean colours of VGGFace2, as its training had them; the order of colours is RGB.
    """
    import keras

    x = keras.layers.Rescaling(1.0, [-123.68, -116.779, -103.939], dtype=precision, name="scaled")(images)
    x = _convolution(x, "block0_conv", precision, 32, kernel=3, stride=2)
    for block, (channels, stride) in enumerate(MOBILENET, start=1):
        x = _depthwise(x, f"block{block}_depthwise", precision, kernel=3, stride=stride)
        x = _convolution(x, f"block{block}_pointwise", precision, channels)
    return x


def efficientnet_lite0(images: keras.KerasTensor, precision: str) -> keras.KerasTensor:
    """Return the features of EfficientNet-Lite0 (Tan and Le, 2019, without squeeze-and-excitation), 1,280 channels."""
    import keras

    x = keras.layers.Rescaling(1 / 128, -127 / 128, dtype=precision, name="scaled")(images)
    x = _convolution(x, "block0_conv", precision, 32, kernel=3, stride=2)
    block = 0
    for repeats, kernel, first_stride, expansion, channels in EFFICIENTNET_LITE0:
        for i in range(repeats):
            block += 1
            y, name = x, f"block{block}"
            if expansion > 1:
                y = _convolution(y, f"{name}_expand", precision, expansion * x.shape[-1])
            y = _depthwise(y, f"{name}_depthwise", precision, kernel, first_stride if i == 0 else 1)
            y = _convolution(y, f"{name}_project", precision, channels, relu=False)
            x = keras.layers.Add(dtype=precision, name=f"{name}_add")([x, y]) if i else y
    return _convolution(x, f"block{block + 1}_conv", precision, 1280)


BACKBONES: dict[str, Backbone] = {"mobilenet": mobilenet, "efficientnet_lite0": efficientnet_lite0}
"""The networks by name."""


def block_of(layer: str) -> int:
    """Return the number of a layer's block from its name, or -1 for a layer outside of blocks."""
    name, _, rest = layer.partition("_")
    return int(name.removeprefix("block")) if rest and name.startswith("block") else -1


def _convolution(
    x: keras.KerasTensor, name: str, precision: str, channels: int, kernel: int = 1, stride: int = 1, relu: bool = True
) -> keras.KerasTensor:
    import keras

    initial = "he_normal" if relu else "lecun_normal"  # for weights that are random
    x = keras.layers.Conv2D(
        channels, kernel, stride, padding="same", kernel_initializer=initial, dtype=precision, name=name
    )(x)
    return keras.layers.ReLU(6.0, dtype=precision, name=f"{name}_relu")(x) if relu else x


def _depthwise(x: keras.KerasTensor, name: str, precision: str, kernel: int, stride: int) -> keras.KerasTensor:
    import keras

    initial = keras.initializers.VarianceScaling(2.0, mode="fan_out")  # He: each output has one channel as input
    x = keras.layers.DepthwiseConv2D(
        kernel, stride, padding="same", depthwise_initializer=initial, dtype=precision, name=name
    )(x)
    return keras.layers.ReLU(6.0, dtype=precision, name=f"{name}_relu")(x)
