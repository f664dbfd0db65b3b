"""Reading of a graph model of TensorFlow.js whose trunk is a chain of convolutions, each with ReLU6.

The format: a JSON with the nodes of a TensorFlow graph and a list of its constants, and a file with their values one
after the other (https://github.com/tensorflow/tfjs/tree/master/tfjs-converter).
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from manyheads.errors import IntegrityError

DTYPES = {"float32": "<f4", "int32": "<i4"}

CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
END = "Mean"
# What follows a convolution: perhaps a scale of the channels, then the bias and ReLU6.
REST = ("Add", "Relu", "Minimum", "Maximum")

Node = Mapping[str, Any]


class Convolution(NamedTuple):
    """A convolution with its bias; a scale of its output channels is part of the kernel.

    Attributes:
        depthwise: Whether each channel has a kernel of its own.
        stride: Step in pixels, in both directions.
        kernel: Shape (height, width, in, out), or (height, width, in, 1) if it is depthwise; float32.
        bias: Shape (out,) or (in,), float32.
    """

    depthwise: bool
    stride: int
    kernel: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]


class _Step(NamedTuple):
    """A node of the chain, and the constant that it takes beside the output of the node before it."""

    node: Node
    constant: npt.NDArray[Any]

    @property
    def op(self) -> str:
        return str(self.node["op"])


def convolutions(graph: bytes, values: bytes) -> list[Convolution]:
    """Return the convolutions between the placeholder of a graph and its mean over all pixels, in order.

    Args:
        graph: The JSON file.
        values: The file of the constants.

    Raises:
        IntegrityError: The files are damaged, or the graph is not such a chain; the message names the node.
    """
    try:
        content = json.loads(graph)
        constants = _constants(content["weightsManifest"], values)
        return [_convolution(block) for block in _blocks(_steps(content["modelTopology"]["node"], constants))]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"not a graph model of TensorFlow.js ({error!r}): fetch the file again") from error


def _constants(manifest: Sequence[Any], values: bytes) -> dict[str, npt.NDArray[Any]]:
    constants = {}
    start = 0
    for constant in (each for group in manifest for each in group["weights"]):
        if "quantization" in constant:
            raise _refused(constant, "its values are quantized")
        dtype = np.dtype(DTYPES[constant["dtype"]])
        length = math.prod(constant["shape"])
        constants[constant["name"]] = np.frombuffer(values, dtype, length, start).reshape(constant["shape"])
        start += length * dtype.itemsize
    if start != len(values):
        raise ValueError(f"{len(values)} bytes of constants where {start} are announced")
    return constants


def _steps(nodes: Sequence[Node], constants: Mapping[str, npt.NDArray[Any]]) -> Iterator[_Step]:
    """Follow the graph from its placeholder, node by node."""
    (node,) = (node for node in nodes if node["op"] == "Placeholder")
    while True:
        before = node["name"]
        followers = [each for each in nodes if before in each.get("input", [])]
        if len(followers) != 1:
            raise _refused(node, f"{len(followers)} nodes follow it")
        (node,) = followers
        if node["op"] == END:
            return
        others = [name for name in node["input"] if name != before]
        if len(others) + 1 != len(node["input"]) or not set(others) <= set(constants) or len(others) > 1:
            raise _refused(node, "it takes more than the node before it and a constant")
        yield _Step(node, constants[others[0]] if others else np.empty(0))


def _blocks(steps: Iterator[_Step]) -> list[list[_Step]]:
    """Return the steps of each convolution."""
    blocks: list[list[_Step]] = []
    for step in steps:
        if step.op in CONVOLUTIONS:
            blocks.append([step])
        elif blocks:
            blocks[-1].append(step)
        else:
            raise _refused(step.node, "it is before the first convolution")
    return blocks


def _convolution(block: Sequence[_Step]) -> Convolution:
    first, *rest = block
    depthwise = first.op != "Conv2D"
    kernel = first.constant
    channels = kernel.shape[2 if depthwise else 3]
    if rest and rest[0].op == "Mul":
        scale = _of_channels(rest.pop(0), channels)
        kernel = kernel * (scale[:, None] if depthwise else scale)
    for step, op in zip(rest, REST, strict=False):
        if step.op != op:
            raise _refused(step.node, f"{op} is expected")
    if len(rest) != len(REST):
        raise _refused(block[-1].node, f"a convolution with {', '.join(REST)} is expected")
    bias, _, minimum, maximum = rest
    for step, limit in ((minimum, 6), (maximum, 0)):
        if step.constant.shape or step.constant != limit:
            raise _refused(step.node, f"{limit} is expected")
    return Convolution(depthwise, _stride(first.node, kernel), kernel, _of_channels(bias, channels))


def _of_channels(step: _Step, channels: int) -> npt.NDArray[np.float32]:
    if step.constant.shape[-1:] != (channels,) or step.constant.size != channels:
        raise _refused(step.node, f"its constant has shape {step.constant.shape}, {channels} channels are expected")
    return step.constant.reshape(channels)


def _stride(node: Node, kernel: npt.NDArray[Any]) -> int:
    """Return the stride of a convolution that is as ``keras.layers.Conv2D`` with padding ``same``."""
    attributes = node["attr"]
    padding, order = (base64.b64decode(attributes[name]["s"]) for name in ("padding", "data_format"))
    strides, dilations = ([int(each) for each in attributes[name]["list"]["i"]] for name in ("strides", "dilations"))
    is_plain = (padding, order, dilations) == (b"SAME", b"NHWC", [1, 1, 1, 1]) and kernel.ndim == 4
    if not is_plain or strides != [1, strides[1], strides[1], 1] or (node["op"] != "Conv2D" and kernel.shape[3] != 1):
        raise _refused(node, "it is a convolution of another kind")
    return strides[1]


def _refused(node: Node, why: str) -> IntegrityError:
    return IntegrityError(f"the graph cannot be read at {node['name']} ({node.get('op', 'constant')}): {why}")
