"""The compiled model of a training, with initial weights from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from manyheads.config.schema import TrainConfig
from manyheads.encoders.base import Encoder
from manyheads.inputs import Input
from manyheads.modeling.build import build_network, compile_model
from manyheads.modeling.objective import Objective
from manyheads.training.fingerprint import precision_of
from manyheads.training.optimizers import optimizer_for

if TYPE_CHECKING:
    from manyheads.modeling.multi_head import MultiHeadModel


def compiled_model(
    encoder: Encoder,
    inputs: Mapping[str, Input],
    objective: Objective,
    settings: TrainConfig,
    seed: int,
    samples: int,
    *,
    weighting: Literal["fixed", "learned"] = "fixed",
    form: str = "training_step",
) -> MultiHeadModel:
    """Return a compiled model with initial weights.

    Args:
        encoder: The encoder of the heads' features.
        inputs: The inputs by name.
        objective: The heads with their losses.
        settings: The settings of the training.
        seed: Seed of the initial weights.
        samples: Number of samples in an epoch, for the learning-rate schedule.
        weighting: Whether the weights of the losses are fixed or learned.
        form: How the objective is given to Keras; see ``modeling.build.compile_model``.
    """
    import keras

    keras.utils.set_random_seed(seed)
    network = build_network(encoder, objective, inputs, precision_of(settings))
    optimizer = optimizer_for(settings, max(1, samples // settings.batch_size))
    return compile_model(network, objective, optimizer, weighting=weighting, form=form)
