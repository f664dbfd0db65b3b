"""The encoder of any mixture of inputs: each tower is that of the encoder of its kind alone."""

import numpy as np
import pytest

from builders import objective_for
from conftest import compose
from manyheads.encoders import CompactEncoder, LateFusionEncoder
from manyheads.heads import Categorical, LabelStatistics, Regression
from manyheads.inputs import ImageInput, NumbersInput, TextInput
from manyheads.inputs.base import Input
from manyheads.modeling import inference, saving
from manyheads.modeling.build import build_network
from manyheads.runtime import tensorflow

HEADS = {
    "age": Regression(name="age", unit="years", minimum=0, maximum=116),
    "race": Categorical(name="race", classes=("a", "b", "c")),
}
OBJECTIVE = objective_for(
    HEADS, {"age": "mae", "race": "categorical_crossentropy"}, dict.fromkeys(HEADS, LabelStatistics())
)
TRUNK = {"stem": (8,), "widths": (8, 16), "blocks": (1, 1), "dropout": 0.1}
FUSION = LateFusionEncoder(**TRUNK, embedding=8, stacks=((8,), (16,)), kernel=5, pool=3, dense=(16, 8))
IMAGE = ImageInput(image_size=16, duplicate_correlation=1)
MIXED = {"photo": IMAGE, "other": IMAGE, "words": TextInput(vocabulary=50, length=1), "sizes": NumbersInput(width=4)}
N = 40


@pytest.fixture(scope="module", autouse=True)
def _keras():
    tensorflow.require_tensorflow()


def arrays():
    random = np.random.default_rng(0)
    sizes = random.normal([1e6, 3e-4, 0, 5], [50, 1e-5, 1, 0], (N, 4)).astype(np.float32)
    photos = {name: random.integers(0, 255, (N, 16, 16, 3), dtype=np.uint8) for name in ("photo", "other")}
    return {**photos, "words": random.integers(1, 50, (N, 1)).astype(np.int32), "sizes": sizes}


def predicted(network, values):
    return inference.Predictor(network, HEADS)(values)


def test_an_image_alone_has_the_network_of_compact():
    import keras

    images = {"photo": arrays()["photo"]}
    networks = []
    for encoder in (FUSION, CompactEncoder(**TRUNK)):
        keras.utils.set_random_seed(1)
        networks.append(build_network(encoder, OBJECTIVE, {"photo": IMAGE}))
    fused, compact = (predicted(network, images) for network in networks)
    for name in HEADS:
        np.testing.assert_array_equal(fused[name], compact[name])
    default, small = compose("model=default").model, compose("model=small").model
    assert {key: getattr(default, key) for key in TRUNK} == {key: getattr(small, key) for key in TRUNK}


def test_a_mixture_is_folded_saved_and_loaded_without_a_change(tmp_path):
    values = arrays()
    trained = build_network(FUSION, OBJECTIVE, MIXED)
    FUSION.adapt(trained, MIXED, values, np.arange(N))
    trained.compile(optimizer="adam")
    folded = build_network(FUSION, OBJECTIVE, MIXED, folded=True)
    inference.fold(trained, folded)
    saving.save(tmp_path, folded, saving.ModelCard(data="table", inputs=MIXED, heads=HEADS))
    expected, found = predicted(trained, values), saving.load(tmp_path).predictor()(values)
    for name in HEADS:
        assert np.ptp(expected[name]) > 0
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)


def test_numbers_are_standardized_by_the_training_rows_alone():
    import keras

    encoder, inputs = FUSION, {"sizes": MIXED["sizes"]}
    network = build_network(encoder, OBJECTIVE, inputs)
    values = {"sizes": arrays()["sizes"]}
    values["sizes"][30:] *= 100
    encoder.adapt(network, inputs, values, np.arange(30))
    layer = keras.Model(network.inputs[0], network.get_layer("sizes_standardized").output)
    read = layer.predict(values["sizes"][:30], verbose=0)
    np.testing.assert_allclose(read.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(read.std(axis=0), [1, 1, 1, 0], atol=0.01)
    before = network.get_layer("sizes_standardized").get_weights()
    layer(values["sizes"], training=True)
    np.testing.assert_array_equal(network.get_layer("sizes_standardized").get_weights(), before)


class Unknown(NumbersInput):
    TOWER = Input.TOWER


def test_an_input_without_a_tower_is_refused():
    assert FUSION.conflict_with(MIXED) is None
    assert FUSION.conflict_with({"sizes": Unknown(width=1)}) == "has no tower for sizes (numbers)"
