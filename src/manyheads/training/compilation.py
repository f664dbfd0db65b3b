"""The compiled model of a training, with initial weights from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from manyheads.config.schema import TrainConfig
from manyheads.data.subsets import Subset
from manyheads.encoders.base import TRUNK, Encoder
from manyheads.inputs import Input
from manyheads.modeling.build import after_trunk, build_network, compile_model
from manyheads.modeling.objective import Objective
from manyheads.training.fingerprint import precision_of
from manyheads.training.optimizers import optimizer_for

if TYPE_CHECKING:
    import keras

    from manyheads.modeling.multi_head import MultiHeadModel


class Compiled(NamedTuple):
    """A network and what of it learns; the layers are shared.

    Attributes:
        network: The network from the inputs to the outputs.
        model: The network, or its layers after a frozen trunk, compiled.
    """

    network: keras.Model
    model: MultiHeadModel


def compiled_model(
    encoder: Encoder,
    inputs: Mapping[str, Input],
    objective: Objective,
    settings: TrainConfig,
    seed: int,
    train: Subset,
    *,
    weighting: Literal["fixed", "learned"] = "fixed",
    form: str = "training_step",
) -> Compiled:
    """Return a compiled model with initial weights.

    Args:
        encoder: The encoder of the heads' features.
        inputs: The inputs by name.
        objective: The heads with their losses.
        settings: The settings of the training.
        seed: Seed of the initial weights.
        train: The training samples. If their input are the features of a frozen trunk, see ``training.features``, the
            model takes these features.
        weighting: Whether the weights of the losses are fixed or learned.
        form: How the objective is given to Keras; see ``modeling.build.compile_model``.
    """
    import keras

    keras.utils.set_random_seed(seed)
    network = build_network(encoder, objective, inputs, precision_of(settings))
    encoder.adapt(network, inputs, train.inputs, train.rows)
    learning = after_trunk(network) if TRUNK in train.inputs else network
    optimizer = optimizer_for(settings, max(1, len(train) // settings.batch_size))
    return Compiled(network, compile_model(learning, objective, optimizer, weighting=weighting, form=form))
