"""Batches of a subset for Keras, shuffled and augmented for training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from manyheads.data.subsets import Subset
from manyheads.heads import Head
from manyheads.inputs import Input
from manyheads.inputs.base import Draws, Rectangle
from manyheads.modeling.objective import MIXUP

if TYPE_CHECKING:
    import tensorflow as tf


class Feed:
    """Batches of one subset as a ``tf.data.Dataset``, read from the memory map on demand.

    Args:
        subset: The samples.
        heads: The heads by name, which define the targets.
        batch_size: Number of samples in a batch.
        seed: Seed of order and augmentation.
        training: Whether to shuffle the samples, and to drop an incomplete last batch.
        augment: Strength of the augmentation, 0 for none.
        mixup: Parameter of mixup, 0 for none.
        cutmix: Share of the batches that are mixed by CutMix, 0 for none. With mixup or CutMix the targets have the
            entry ``MIXUP``.
    """

    def __init__(
        self,
        subset: Subset,
        heads: Mapping[str, Head],
        batch_size: int,
        seed: int,
        *,
        training: bool,
        augment: float,
        mixup: float = 0.0,
        cutmix: float = 0.0,
    ):
        self.subset = subset
        self.targets = {name: head.targets(subset.labels[name]) for name, head in heads.items()}
        self.batch_size = batch_size
        self.seed = seed
        self.training = training
        self.augment = augment
        self.mixup = mixup
        self.cutmix = cutmix
        # A small last batch has poor batch normalization statistics. Each epoch drops other samples.
        self.steps = max(1, len(subset) // batch_size) if training else math.ceil(len(subset) / batch_size)
        self.order = np.arange(len(subset))
        self.draws: list[Draws] = []
        self.shares = np.ones(self.steps, dtype=np.float32)
        self.places: dict[int, Rectangle] = {}

    def epoch(self, number: int) -> tf.data.Dataset:
        """Return the batches of an epoch as pairs of inputs and targets, each a dictionary by name.

        Order and augmentation depend only on seed, epoch and sample.
        """
        if self.training:
            self.order = np.random.default_rng([self.seed, number]).permutation(len(self.subset))
        if self.augment:
            self.draws = [
                np.random.default_rng([self.seed, number]).random(
                    (len(self.subset), kind.AUGMENTATION_DRAWS), np.float32
                )
                for kind in self.subset.kinds.values()
            ]
        if self.mixup or self.cutmix:
            self._choose_mixtures(np.random.default_rng([self.seed, number]))
        return self._dataset()

    def _choose_mixtures(self, random: np.random.Generator) -> None:
        """Choose each step's share of the batch in its own order, and the rectangle of each step of CutMix."""
        shares = random.beta(self.mixup, self.mixup, self.steps) if self.mixup else np.ones(self.steps)
        self.shares = np.maximum(shares, 1 - shares).astype(np.float32)
        self.places = {}
        for step in np.flatnonzero(random.random(self.steps) < self.cutmix):
            # A square of up to half the area, everywhere with equal probability.
            area, top, left = random.random(3)
            side = math.sqrt(min(area, 1 - area))
            top, left = top * (1 - side), left * (1 - side)
            self.places[int(step)] = place = Rectangle(top, top + side, left, left + side)
            self.shares[step] = 1 - place.area

    def _load(self, step: int) -> list[npt.NDArray[Any]]:
        chosen = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        rows = self.subset.rows[chosen]
        inputs = [values[rows] for values in self.subset.inputs.values()]
        if self.augment:
            inputs = [
                kind.augment(values, draws[chosen], self.augment)
                for kind, values, draws in zip(self.subset.kinds.values(), inputs, self.draws, strict=True)
            ]
        targets = [target[chosen] for target in self.targets.values()]
        if self.mixup or self.cutmix:
            inputs = [
                self._mixed(kind, values, int(step))
                for kind, values in zip(self.subset.kinds.values(), inputs, strict=True)
            ]
            targets.append(np.full((len(chosen), 1), self.shares[step]))
        return [*inputs, *targets]

    def _mixed(self, kind: Input, values: npt.NDArray[Any], step: int) -> npt.NDArray[Any]:
        place = self.places.get(step)
        return kind.mix(values, float(self.shares[step])) if place is None else kind.paste(values, place)

    def _dataset(self) -> tf.data.Dataset:
        import tensorflow as tf

        arrays = [*self.subset.inputs.values(), *self.targets.values()]
        names = [*self.subset.inputs, *self.targets]
        if self.mixup or self.cutmix:
            arrays.append(np.zeros((0, 1), np.float32))
            names.append(MIXUP)
        n_inputs = len(self.subset.inputs)

        def load(step: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
            loaded = tf.numpy_function(self._load, [step], [array.dtype for array in arrays])
            for values, array in zip(loaded, arrays, strict=True):
                values.set_shape((None, *array.shape[1:]))
            named = list(zip(names, loaded, strict=True))
            return dict(named[:n_inputs]), dict(named[n_inputs:])

        # Autotuning has no effect here, and its thread delays the end of an epoch to 10, 20 or 41 s.
        options = tf.data.Options()
        options.autotune.enabled = False
        loading = tf.autograph.experimental.do_not_convert(load)  # has no Python control flow to convert
        dataset = tf.data.Dataset.range(self.steps).map(loading).with_options(options)
        return dataset.apply(tf.data.experimental.assert_cardinality(self.steps)).prefetch(4)
