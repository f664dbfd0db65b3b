"""Small graph models of TensorFlow.js, and what a graph answers by TensorFlow's own operations."""

import base64
import json

import numpy as np


def attributes(stride=1, padding="SAME", dilation=1):
    """Return the attributes of a convolution."""
    return {
        "strides": {"list": {"i": ["1", str(stride), str(stride), "1"]}},
        "dilations": {"list": {"i": ["1", str(dilation), str(dilation), "1"]}},
        "padding": {"s": base64.b64encode(padding.encode()).decode()},
        "data_format": {"s": base64.b64encode(b"NHWC").decode()},
    }


def tiny_graph():
    """Return the nodes and the constants of three convolutions, of which the second is depthwise and has a scale."""
    random = np.random.default_rng(0)
    nodes = [{"name": "images", "op": "Placeholder"}]
    constants = {"mean/axes": np.array([1, 2], dtype=np.int32)}
    here = "images"

    def follow(name, op, constant=None, **more):
        nonlocal here
        inputs = [here]
        if constant is not None:
            constants[f"{name}/constant"] = np.asarray(constant, dtype=np.float32)
            nodes.append({"name": f"{name}/constant", "op": "Const"})
            inputs.append(f"{name}/constant")
        nodes.append({"name": name, "op": op, "input": inputs, **more})
        here = name

    for layer, (op, shape, stride) in enumerate(
        (("Conv2D", (3, 3, 3, 4), 2), ("DepthwiseConv2dNative", (3, 3, 4, 1), 1), ("Conv2D", (1, 1, 4, 6), 1))
    ):
        follow(f"{layer}/conv", op, random.normal(size=shape), attr=attributes(stride))
        channels = 6 if layer == 2 else 4
        if layer == 1:
            follow(f"{layer}/scale", "Mul", random.uniform(0.5, 2, channels))
        follow(f"{layer}/bias", "Add", random.normal(size=channels))
        follow(f"{layer}/relu", "Relu")
        follow(f"{layer}/upper", "Minimum", 6)
        follow(f"{layer}/lower", "Maximum", 0)
    nodes.append({"name": "mean/axes", "op": "Const"})
    nodes.append({"name": "mean", "op": "Mean", "input": [here, "mean/axes"]})
    return nodes, constants


def as_files(nodes, constants):
    """Return the JSON file and the file of the constants."""
    listed = [{"name": name, "shape": list(each.shape), "dtype": each.dtype.name} for name, each in constants.items()]
    manifest = [{"paths": ["values.bin"], "weights": listed}]
    content = {"modelTopology": {"node": nodes}, "weightsManifest": manifest}
    return json.dumps(content).encode(), b"".join(each.tobytes() for each in constants.values())


def pooled(graph, values, images):
    """Return what the first ``Mean`` of a graph is for images, shape (n, channels), by TensorFlow's own operations."""
    import tensorflow as tf

    content = json.loads(graph)
    constants, start = {}, 0
    for each in content["weightsManifest"][0]["weights"]:
        length = int(np.prod(each["shape"]))
        constants[each["name"]] = np.frombuffer(values, each["dtype"], length, start).reshape(each["shape"])
        start += 4 * length
    nodes = {node["name"]: node for node in content["modelTopology"]["node"]}
    elementwise = {"Add": tf.add, "Mul": tf.multiply, "Minimum": tf.minimum, "Maximum": tf.maximum}

    def value_of(name):
        node = nodes[name]
        match node["op"]:
            case "Const":
                return tf.constant(constants[name])
            case "Placeholder":
                return tf.constant(images, tf.float32)
        inputs = [value_of(each) for each in node["input"]]
        match node["op"]:
            case "Conv2D" | "DepthwiseConv2dNative" as op:
                convolve = tf.nn.conv2d if op == "Conv2D" else tf.nn.depthwise_conv2d
                strides = [int(each) for each in node["attr"]["strides"]["list"]["i"]]
                return convolve(*inputs, strides, base64.b64decode(node["attr"]["padding"]["s"]).decode())
            case "Relu":
                return tf.nn.relu(*inputs)
            case "Mean":
                return tf.reduce_mean(*inputs)
            case op:
                return elementwise[op](*inputs)

    return value_of(next(name for name, node in nodes.items() if node["op"] == "Mean")).numpy()
