"""Trainings of a pretrained network: its features computed once, its heads first, some blocks frozen."""

import numpy as np
import pytest

import stand_in_weights
from conftest import make_tiny_project
from manyheads.data.subsets import load_subset
from manyheads.encoders.base import TRUNK
from manyheads.modeling import saving
from manyheads.modeling.inference import Predictor
from manyheads.paths import Paths
from manyheads.runtime import tensorflow
from manyheads.training import loop, run
from manyheads.training.checkpoint import Progress, save_checkpoint
from manyheads.training.compilation import compiled_model
from manyheads.training.features import computed_once
from manyheads.training.heads_first import copy_weights, heads_checkpoint, train_heads
from manyheads.training.loop import fit
from manyheads.training.run import training_objective

pytestmark = pytest.mark.slow

SMALL = (
    "model=face", "inputs.image.image_size=16", "model.hidden=8", "train.epochs=2", "train.batch_size=32",
    "train.learning_rate=0.01", "train.augment=0", "train.deterministic=true", "train.precision=float32",
)  # fmt: skip


@pytest.fixture(scope="module")
def layout(tmp_path_factory, migrated_store):
    return make_tiny_project(tmp_path_factory.mktemp("project"), migrated_store)


@pytest.fixture
def weights(monkeypatch, tmp_path):
    tensorflow.start_training_session(deterministic=True)
    return stand_in_weights.install(monkeypatch, tmp_path)


@pytest.fixture
def subsets(layout, make_config):
    config = make_config(*SMALL)
    return tuple(load_subset(layout, config.data.heads, config.inputs, name) for name in ("train", "validation"))


def compiled(config, train):
    return compiled_model(
        config.model, config.inputs, training_objective(config, train), config.train, config.seed, train
    )


def fitted(config, train, validation, objective_from, checkpoint):
    """Return a network after a training on subsets, whose input may be features."""
    objective = training_objective(config, objective_from)
    network, model = compiled_model(config.model, config.inputs, objective, config.train, config.seed, train)
    fit(model, train, validation, config.train, config.seed, checkpoint, Progress(fingerprint={}))
    return network


def of_trunk(network):
    """Return the weights of the layers up to the trunk, by names as in a file of weights."""
    layers = [layer for layer in network.layers if layer.name.startswith("block") and layer.weights]
    return {
        f"{layer.name}/{kind}": values
        for layer in layers
        for kind, values in zip(("kernel", "bias"), layer.get_weights(), strict=True)
    }


def of_heads(network):
    return {
        layer.name: layer.get_weights()
        for layer in network.layers
        if layer.weights and not layer.name.startswith("block") and layer.trainable
    }


def assert_trunk_is(network, weights):
    found = of_trunk(network)
    assert found.keys() == weights.keys()
    for name, values in found.items():
        np.testing.assert_array_equal(values, weights[name], err_msg=name)


def test_the_model_above_features_gives_the_outputs_of_the_network(weights, subsets, make_config):
    config = make_config(*SMALL)
    train, validation = subsets
    learned, judged = computed_once(config.model, config.inputs, "float32", train, validation)
    assert list(learned.inputs) == [TRUNK]
    assert learned.inputs[TRUNK].shape == (len(train), stand_in_weights.BLOCKS[-1][0])
    assert learned.inputs[TRUNK].std(axis=0).max() > 0.1
    network, model = compiled(config, learned)
    whole = Predictor(network, config.data.heads)(validation.inputs, validation.rows)
    above = Predictor(model, config.data.heads)(judged.inputs, judged.rows)
    for name in config.data.heads:
        np.testing.assert_allclose(above[name], whole[name], rtol=1e-5, atol=1e-6)
        assert whole[name].std() > 0


def test_a_training_on_features_is_that_of_the_network_with_a_frozen_trunk(weights, subsets, make_config, tmp_path):
    config = make_config(*SMALL, "model.dropout=0")
    train, validation = subsets
    learned, judged = computed_once(config.model, config.inputs, "float32", train, validation)
    above = fitted(config, learned, judged, train, tmp_path / "above.npz")
    whole = fitted(config, train, validation, train, tmp_path / "whole.npz")
    for network in (above, whole):
        assert_trunk_is(network, weights)
    changed = []
    for name, values in of_heads(whole).items():
        for mine, theirs in zip(of_heads(above)[name], values, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4, err_msg=name)
        changed.append(name)
    assert "hidden" in changed


def test_blocks_below_frozen_blocks_stay_and_others_learn(weights, subsets, make_config, tmp_path):
    config = make_config(*SMALL, "model.frozen_blocks=2")
    network = fitted(config, *subsets, subsets[0], tmp_path / "fine.npz")
    for name, values in of_trunk(network).items():
        if name.startswith("block2"):
            assert np.abs(values - weights[name]).max() > 1e-4, name
        else:
            np.testing.assert_array_equal(values, weights[name], err_msg=name)


def test_heads_first_leaves_the_trunk_and_continues_after_a_stop(
    weights, subsets, layout, make_config, tmp_path, monkeypatch
):
    config = make_config(*SMALL, "model.frozen_blocks=1", "train.heads_first=2", "train.augment=0.5")
    objective = training_objective(config, subsets[0])
    checkpoint, saved = tmp_path / "checkpoint.npz", []

    def save(path, *more):
        save_checkpoint(path, *more)
        saved.append((path, path.read_bytes()))

    monkeypatch.setattr(loop, "save_checkpoint", save)
    whole = train_heads(config, layout, objective, *subsets, checkpoint)
    assert_trunk_is(whole, weights)
    assert saved[0][0] == heads_checkpoint(checkpoint)  # kept until the whole training has saved an epoch
    (path, after_one_epoch), _ = saved
    path.write_bytes(after_one_epoch)
    continued = train_heads(config, layout, objective, *subsets, checkpoint)
    assert len(saved) == 3
    for name, values in of_heads(whole).items():
        for mine, theirs in zip(of_heads(continued)[name], values, strict=True):
            np.testing.assert_array_equal(mine, theirs, err_msg=name)


def test_a_fine_tuning_starts_from_the_heads_that_learned_first_and_continues_without_them(
    weights, subsets, layout, make_config, tmp_path, monkeypatch
):
    config = make_config(
        *SMALL, "model.frozen_blocks=1", "train.heads_first=1", "train.epochs=1", "train.learning_rate=1e-12",
        "train.weight_decay=0", "train.flip_tta=false",
    )  # fmt: skip
    heads = []

    def recorded(*arguments):
        heads.append(train_heads(*arguments))
        return heads[-1]

    monkeypatch.setattr(run, "train_heads", recorded)
    destination, checkpoint = Paths(tmp_path / "outputs"), tmp_path / "checkpoint.npz"
    for _ in range(2):  # the second continues after the last epoch
        run.train(config, layout, destination, checkpoint)
        (network,) = heads
        saved = saving.load(destination.model).predictor()(subsets[1].inputs, subsets[1].rows)
        for name, values in Predictor(network, config.data.heads)(subsets[1].inputs, subsets[1].rows).items():
            np.testing.assert_allclose(saved[name], values, rtol=1e-5, atol=1e-5)


def test_copied_weights_are_those_of_the_source(weights, subsets, make_config):
    first = compiled(make_config(*SMALL, "seed=1"), subsets[0]).network
    second = compiled(make_config(*SMALL, "seed=2", "model.frozen_blocks=1"), subsets[0]).network
    copy_weights(first, second)
    for mine, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        assert mine.shape == theirs.shape
    for name, values in of_heads(first).items():
        for mine, theirs in zip(second.get_layer(name).get_weights(), values, strict=True):
            np.testing.assert_array_equal(mine, theirs)
