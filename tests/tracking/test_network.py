"""The drawing of a network names inputs, shared layers and heads with their shapes."""

import re

import pytest

from conftest import TWO_BLOCKS
from manyheads.modeling.build import averaged_over_flip, build_network
from manyheads.tracking import network


def network_of(config):
    """Build the network of a configuration for labels that are all the first of their label space."""
    from manyheads.heads import LabelStatistics
    from manyheads.modeling.objective import HeadObjective

    objective = tuple(
        HeadObjective(head, config.loss.functions[name], 1.0, LabelStatistics(centers=(0.0,) * 4, spreads=(1.0,) * 4))
        for name, head in config.data.heads.items()
    )
    return build_network(config.model, objective, config.inputs, folded=True)


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition("</style>")[2]))


def test_inputs_shared_layers_and_heads_are_drawn_with_their_shapes(tiny_config):
    config = tiny_config(*TWO_BLOCKS)
    said = text_of(network.drawing(network_of(config), config.data.heads))
    assert "image 16 x 16 x 3 uint8" in said
    assert re.search(r"layers that all heads share .*8 x 8 x 8 .* 16 GlobalAveragePooling2D", said)
    assert "race Categorical red, yellow, green, blue, violet Dense → 5 · 85 parameters → race: 5" in said
    assert "gender: 2" in said


def test_the_network_inside_a_mean_over_mirror_images_is_drawn(tiny_config):
    config = tiny_config()
    mirrored = averaged_over_flip(network_of(config), config.inputs)
    said = text_of(network.drawing(mirrored, config.data.heads))
    assert "mirror image" in said
    assert "age Regression" in said


@pytest.mark.parametrize("choice", ["posts", "questions", "objects", "numbers"])
def test_every_system_is_drawn(make_config, choice):
    config = make_config(f"experiment={choice}")
    said = text_of(network.drawing(network_of(config), config.data.heads))
    for name in (*config.inputs, *config.data.heads):
        assert f" {name} " in said


def test_the_table_of_layers_has_every_layer(tiny_config):
    model = network_of(tiny_config())
    table = network.layer_table(model)
    assert all(layer.name[:20] in table for layer in model.layers)
