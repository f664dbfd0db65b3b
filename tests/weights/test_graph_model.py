import json

import numpy as np
import pytest

from graph_models import as_files, attributes, pooled, tiny_graph
from manyheads.errors import IntegrityError
from manyheads.runtime import tensorflow
from manyheads.weights.graph_model import convolutions


def test_the_convolutions_answer_as_the_graph():
    tensorflow.require_tensorflow()
    import tensorflow as tf

    files = as_files(*tiny_graph())
    images = np.random.default_rng(1).uniform(0, 4, (2, 9, 9, 3)).astype(np.float32)
    x = tf.constant(images)
    layers = convolutions(*files)
    for layer in layers:
        convolve = tf.nn.depthwise_conv2d if layer.depthwise else tf.nn.conv2d
        x = tf.nn.relu6(convolve(x, layer.kernel, [1, layer.stride, layer.stride, 1], "SAME") + layer.bias)
    assert [layer.depthwise for layer in layers] == [False, True, False]
    expected = pooled(*files, images)
    assert expected.std() > 0.1
    np.testing.assert_allclose(tf.reduce_mean(x, [1, 2]).numpy(), expected, rtol=1e-5)


def changed(**changes):
    """Return a function that changes the values of a node."""
    return lambda node: node.update(changes)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("1/bias", changed(op="Sub"), r"at 1/bias \(Sub\): Add is expected"),
        ("0/conv", changed(op="Conv3D"), r"at 0/conv \(Conv3D\): it is before the first convolution"),
        ("0/conv", changed(attr=attributes(2, padding="VALID")), r"at 0/conv \(Conv2D\): .* of another kind"),
        ("1/conv", changed(attr=attributes(1, dilation=2)), r"at 1/conv .*of another kind"),
        ("2/relu", changed(op="Elu"), r"at 2/relu \(Elu\): Relu is expected"),
        ("2/lower", changed(op="Conv2D"), r"at 2/upper \(Minimum\): a convolution with Add, Relu"),
        ("1/relu", changed(input=["1/bias", "0/relu"]), r"at 0/relu \(Relu\): 2 nodes follow it"),
        ("1/upper", changed(input=["1/relu", "nothing"]), r"at 1/upper .*it takes more than"),
        ("mean", changed(input=["2/upper"]), r"at 2/upper .*: 2 nodes follow it"),
        ("mean", changed(op="Max"), r"at 2/lower .*|at mean \(Max\)"),
        ("images", changed(op="Const"), r"not a graph model"),
    ],
)
def test_what_is_no_chain_of_convolutions_is_refused_with_the_name_of_the_node(name, change, said):
    nodes, constants = tiny_graph()
    change(next(node for node in nodes if node["name"] == name))
    with pytest.raises(IntegrityError, match=said):
        convolutions(*as_files(nodes, constants))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("0/upper", 5, r"at 0/upper \(Minimum\): 6 is expected"),
        ("0/lower", -1, r"at 0/lower \(Maximum\): 0 is expected"),
        ("2/bias", np.zeros(4), r"at 2/bias \(Add\): its constant has shape \(4,\), 6 channels are expected"),
        ("1/conv", np.zeros((3, 3, 4, 2)), r"at 1/conv .*of another kind"),
    ],
)
def test_constants_that_do_not_fit_are_refused(name, value, said):
    nodes, constants = tiny_graph()
    constants[f"{name}/constant"] = np.asarray(value, dtype=np.float32)
    with pytest.raises(IntegrityError, match=said):
        convolutions(*as_files(nodes, constants))


def test_damaged_files_are_refused():
    graph, values = as_files(*tiny_graph())
    quantized = json.loads(graph)
    quantized["weightsManifest"][0]["weights"][1]["quantization"] = {"dtype": "float16"}
    for files in (
        (graph, values[:-8]), (graph, values + b"more"), (graph[:-9], values), (b"[]", values), (b"\xff", values),
        (json.dumps(quantized).encode(), values),
    ):  # fmt: skip
        with pytest.raises(IntegrityError, match=r"not a graph model of TensorFlow.js|its values are quantized"):
            convolutions(*files)
