"""The compiled model of a training: its initial weights follow from a seed."""

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
    """Return a model with its initial weights, ready to be fitted.

    Args:
        encoder: Makes the heads' features.
        inputs: What the model takes, by name.
        objective: The heads with their losses.
        settings: How it is trained.
        seed: Seed of the initial weights.
        samples: How many samples an epoch has; the schedule of the learning rate depends on it.
        weighting: Whether the weights of the losses are fixed or learned.
        form: How the objective reaches Keras; see ``modeling.build.compile_model``.
    """
    import keras

    keras.utils.set_random_seed(seed)
    network = build_network(encoder, objective, inputs, precision_of(settings))
    optimizer = optimizer_for(settings, max(1, samples // settings.batch_size))
    return compile_model(network, objective, optimizer, weighting=weighting, form=form)
