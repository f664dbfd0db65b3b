"""Heads first: the heads of a pretrained network learn on its frozen features before its other layers learn.

Random heads would spoil the features in the first epochs of a fine-tuning (Kumar et al., "Fine-Tuning can Distort
Pretrained Features and Underperform Out-of-Distribution", ICLR 2022).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from manyheads.config.schema import Config
from manyheads.data.subsets import Subset
from manyheads.modeling.objective import Objective
from manyheads.paths import Paths
from manyheads.training.checkpoint import resume
from manyheads.training.compilation import compiled_model
from manyheads.training.features import computed_once
from manyheads.training.fingerprint import fingerprint, precision_of
from manyheads.training.loop import fit

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

SETTINGS = {"learning_rate": 0.001, "schedule": "cosine", "warmup_epochs": 1.0, "augment": 0.0}
"""What differs from the settings of the whole training."""


def train_heads(
    config: Config, project: Paths, objective: Objective, train: Subset, validation: Subset, checkpoint: Path
) -> keras.Model:
    """Return the network after its heads have learned for ``train.heads_first`` epochs, or continue such a training.

    Args:
        config: All settings.
        project: Paths of the packed samples and the split.
        objective: The heads with their losses.
        train: The training subset.
        validation: The validation subset, whose score selects the best epoch.
        checkpoint: Path of the checkpoint of the whole training; that of the heads is beside it.
    """
    epochs = config.train.heads_first
    logger.info("heads first: %d epochs on the features of the pretrained network", epochs)
    settings = config.train.model_copy(update={"epochs": epochs, **SETTINGS})
    encoder = config.model.frozen()
    learned, judged = computed_once(encoder, config.inputs, precision_of(settings), train, validation)
    network, model = compiled_model(
        encoder, config.inputs, objective, settings, config.seed, learned,
        weighting=config.loss.weighting, form=config.loss.form,
    )  # fmt: skip
    own = heads_checkpoint(checkpoint)
    fit(model, learned, judged, settings, config.seed, own, resume(own, model, fingerprint(config, project)))
    return network


def heads_checkpoint(checkpoint: Path) -> Path:
    """Return the path of the heads' checkpoint, which is needed until the whole training has one of its own."""
    return checkpoint.with_name(f"{checkpoint.stem}-heads.npz")


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy all weights between networks of the same layers, some of which are frozen in one of them."""
    for layer in target.layers:
        layer.set_weights(source.get_layer(layer.name).get_weights())
