"""Building of the model from an encoder and heads, and its compilation with the objective.

Targets, losses, weights, metrics and outputs are named after the heads; a head may have several outputs. Outputs are in
the label's unit, images are uint8 and texts are token ids, so that a saved model needs no separate preprocessing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from manyheads.encoders.base import TRUNK, Encoder
from manyheads.errors import ConfigError
from manyheads.heads import Head
from manyheads.inputs import Input
from manyheads.modeling.objective import Objective

if TYPE_CHECKING:
    import keras

    from manyheads.modeling.multi_head import MultiHeadModel

FEATURES = "encoder_features"
"""Start of the names of the layers that mark the features of the heads."""


def build_network(
    encoder: Encoder,
    objective: Objective,
    inputs: Mapping[str, Input],
    precision: str = "float32",
    *,
    folded: bool = False,
) -> keras.Model:
    """Build a functional model that maps the inputs to a dictionary of the heads' outputs.

    Args:
        encoder: The encoder of the heads' features.
        objective: The heads, their losses, which determine the activations, and the statistics of their labels.
        inputs: The inputs by name.
        precision: Keras dtype policy of the hidden layers.
        folded: Whether to build for inference; see ``Encoder.features``.

    Returns:
        A model that is not compiled. It takes inputs by name, as a list in order, or a single input directly. It
        returns the outputs of ``Head.outputs`` by name, shape (batch, units), float32.

    Raises:
        ConfigError: The encoder cannot take inputs of this shape, or a head builds other outputs than it declares.
    """
    tensors = {name: kind.tensor(name) for name, kind in inputs.items()}
    try:
        features = encoder.features(inputs, tensors, [each.name for each in objective], precision, folded=folded)
    except ValueError as error:
        shapes = ", ".join(f"{name} {kind.shape}" for name, kind in inputs.items())
        raise ConfigError(f"inputs ({shapes}) do not fit this model: {str(error).splitlines()[0]}") from error
    features = _marked(features)
    outputs: dict[str, keras.KerasTensor] = {}
    for each in objective:
        outputs |= each.outputs(features[each.name])
    network = _functional(list(tensors.values()), outputs, "manyheads")
    if wrong := mismatch(network, inputs, [each.head for each in objective]):
        raise ConfigError(f"the model's layers do not match its heads and inputs: {wrong}")
    return network


def _marked(features: Mapping[str, keras.KerasTensor]) -> dict[str, keras.KerasTensor]:
    """Return the features after a layer that does nothing, by whose name ``with_features`` finds them again."""
    import keras

    distinct = {id(tensor): tensor for tensor in features.values()}
    marked = {
        key: keras.layers.Identity(dtype="float32", name=f"{FEATURES}_{number}")(tensor)
        for number, (key, tensor) in enumerate(distinct.items())
    }
    return {head: marked[id(tensor)] for head, tensor in features.items()}


def with_features(model: keras.Model, kinds: Mapping[str, Input]) -> keras.Model:
    """Return a model that also has the features, which the heads' layers take, among its outputs.

    Args:
        model: From ``build_network``, ``averaged_over_flip`` or ``saving.load``; the result shares its layers.
        kinds: The inputs by name; see ``Input.mirror``.

    Returns:
        A model with the further outputs ``<FEATURES>_0``, …, shape (batch, width), float32. Each is a mean over a
        sample and its mirror image, if the model's outputs are. A network without marked features is returned as it is.
    """
    import keras

    if marked := [layer for layer in model.layers if layer.name.startswith(f"{FEATURES}_")]:
        outputs = {**model.output, **{layer.name: layer.output for layer in marked}}
        return _functional(model.inputs, outputs, model.name)
    for layer in model.layers:
        if isinstance(layer, keras.Model) and (extended := with_features(layer, kinds)) is not layer:
            return averaged_over_flip(extended, kinds)
    return model


def after_trunk(network: keras.Model) -> keras.Model:
    """Return the layers of a network after the layer ``TRUNK``, as a model with the input ``TRUNK``; layers are shared.

    Args:
        network: From ``build_network``, with an encoder that has a trunk.
    """
    import keras

    end = network.get_layer(TRUNK).output
    features = keras.Input(end.shape[1:], dtype="float32", name=TRUNK)
    outputs = keras.Model(end, network.output)(features)
    return _functional([features], outputs, f"{network.name}_{TRUNK}")


def _functional(inputs: Sequence[keras.KerasTensor], outputs: dict[str, keras.KerasTensor], name: str) -> keras.Model:
    import keras

    # Keras flattens a dictionary of inputs in alphabetical order, which would mix up lists of arrays.
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs, name=name)


def averaged_over_flip(network: keras.Model, kinds: Mapping[str, Input]) -> keras.Model:
    """Return a network whose outputs are the means over each sample and its mirror image.

    Args:
        network: From ``build_network`` or ``saving.load``; the result shares its layers.
        kinds: The inputs by name; see ``Input.mirror``.

    Returns:
        A model with the same inputs and outputs. Mirroring is an operation of its graph, so every program that loads
        the saved model gets the same outputs. Inference takes twice as long.
    """
    import keras

    inputs = [keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name) for tensor in network.inputs]
    flipped = [kinds[tensor.name].mirror(tensor) for tensor in inputs]
    straight, mirrored = (network(each if len(each) > 1 else each[0]) for each in (inputs, flipped))
    outputs = {
        name: keras.layers.Average(dtype="float32", name=name)([straight[name], mirrored[name]]) for name in straight
    }
    return _functional(inputs, outputs, f"{network.name}_averaged_over_flip")


def compile_model(
    network: keras.Model,
    objective: Objective,
    optimizer: keras.optimizers.Optimizer,
    *,
    weighting: Literal["fixed", "learned"] = "fixed",
    form: str = "training_step",
) -> MultiHeadModel:
    """Return a network with its objective, compiled for training.

    Args:
        network: From ``build_network``; the result shares its layers.
        objective: The same objective.
        optimizer: Optimizer of the layers' weights and of learned loss weights.
        weighting: Whether the weights of the losses are fixed or learned; see ``MultiHeadModel``.
        form: How the objective is given to Keras, one of ``FORMS``; the results are the same.
    """
    from manyheads.modeling.objective_forms import FORMS

    model = FORMS[form](network, objective, learned=weighting == "learned")
    model.compile(optimizer=optimizer)
    # TensorFlow traces a step that creates variables twice, and tracing takes seconds.
    optimizer.build(model.trainable_variables)
    return model


def mismatch(model: keras.Model, inputs: Mapping[str, Input], heads: Iterable[Head]) -> str:
    """Return how a network's inputs and outputs differ from the declared ones, or an empty text."""
    taken = [f"{tensor.name} {tensor.dtype} {tuple(tensor.shape[1:])}" for tensor in model.inputs]
    declared = [kind.tensor(name) for name, kind in inputs.items()]
    expected = [f"{tensor.name} {tensor.dtype} {tuple(tensor.shape[1:])}" for tensor in declared]
    if taken != expected:
        return f"the network takes {', '.join(taken)}, the inputs are {', '.join(expected)}"
    outputs = model.output if isinstance(model.output, Mapping) else {}
    units = {name: f"{output.dtype} {tuple(output.shape[1:])}" for name, output in outputs.items()}
    known: set[str] = set()
    for head in heads:
        names = head.output_names(outputs)
        known.update(names)
        for output in names:
            wanted = f"float32 ({head.output_units[output.removeprefix(head.name)]},)"
            if units.get(output) != wanted:
                found = units.get(output, "none")
                return f"the head {head.name} needs an output {output} {wanted}, the network has {found}"
    if further := sorted(set(outputs) - known):
        return f"the network has outputs {', '.join(further)} that belong to no head"
    return ""
