"""Learning one batch by heart: whether the labels, the losses and the network of each head fit together.

A head that cannot even repeat one batch, without augmentation, dropout and weight decay, has a fault that more data
does not mend: labels of other samples, a loss or an output layer that do not fit, a learning rate that is too large, or
a network with too few parameters.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from manyheads.data.subsets import Subset
from manyheads.errors import ManyheadsError

if TYPE_CHECKING:
    import keras

    from manyheads.heads import Head

logger = logging.getLogger(__name__)

STEPS = 20
"""Steps of an epoch. Their samples are drawn from so many copies of the batch."""

BY_HEART = 0.95
"""Smallest skill score of a head that knows the batch by heart: its error is a twentieth of that of the best constant
answer for the batch. The score is comparable between losses; a loss need not have the minimum 0, such as that of soft
labels or of a density."""


class Batch(NamedTuple):
    """The batch, once for validation and repeated for training."""

    once: Subset
    repeated: Subset


def one_batch(train: Subset, heads: Mapping[str, Head], size: int, seed: int) -> Batch:
    """Return one batch of the training subset; samples whose labels are all known come first.

    Args:
        train: The training subset.
        heads: The heads by name.
        size: Number of samples.
        seed: Seed of the choice.
    """
    known = np.sum([head.present(train.labels[name]) for name, head in heads.items()], axis=0)
    shuffled = np.random.default_rng(seed).permutation(len(train))
    once = train.take(shuffled[np.argsort(-known[shuffled], kind="stable")][:size])
    return Batch(once, once.take(np.tile(np.arange(len(once)), STEPS)))


def turn_off_dropout(model: keras.Model) -> None:
    """Set the rate of all dropout layers to 0, before the model is traced."""
    import keras

    for layer in _layers(model):
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0


def _layers(model: keras.Model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)


def not_by_heart(heads: Mapping[str, Head], batch: Subset, metrics: Mapping[str, float]) -> list[str]:
    """Return the names of the heads that do not know the batch by heart.

    A head whose labels in the batch are all equal shows nothing and is left out.

    Args:
        heads: The heads by name.
        batch: The batch.
        metrics: Metrics of an epoch on the batch, such as ``val/age/skill``.
    """
    return [name for name in _telling(heads, batch) if metrics[f"val/{name}/skill"] < BY_HEART]


def _telling(heads: Mapping[str, Head], batch: Subset) -> list[str]:
    known = {name: batch.labels[name][head.present(batch.labels[name])] for name, head in heads.items()}
    return [name for name, labels in known.items() if len(np.unique(labels, axis=0)) > 1]


def require_by_heart(heads: Mapping[str, Head], batch: Subset, history: Sequence[Mapping[str, float]]) -> None:
    """Log the result of each head, and raise an error unless all of them knew the batch by heart after some epoch.

    Args:
        heads: The heads by name.
        batch: The batch.
        history: Metrics of each epoch on the batch.

    Raises:
        ManyheadsError: A head does not get there.
    """
    row = min(history, key=lambda row: (len(not_by_heart(heads, batch, row)), -row["val/score"]))
    texts = {
        name: f"{name} (loss {row[f'val/{name}/loss']:.4g}, {head.main_metric} "
        f"{row[f'val/{name}/{head.main_metric}']:.4g}, skill score {row[f'val/{name}/skill']:.3f})"
        for name, head in heads.items()
    }
    failed, telling = not_by_heart(heads, batch, row), _telling(heads, batch)
    for title, names in (
        ("by heart", [name for name in telling if name not in failed]),
        ("not by heart", failed),
        ("labels of the batch are all equal, which shows nothing", [name for name in heads if name not in telling]),
    ):
        if names:
            logger.info("%s: %s", title, ", ".join(texts[name] for name in names))
    if failed:
        raise ManyheadsError(
            f"not learned by heart on one batch of {len(batch)} samples: {', '.join(texts[name] for name in failed)}; "
            f"a skill score of {BY_HEART} is needed. Look at the labels, the loss and the weight of the head, and at "
            "the number of parameters; then raise train.epochs or change train.learning_rate"
        )
