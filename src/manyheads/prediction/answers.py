"""The answers of a saved model: the values of every head for decoded samples, and what is unusual about a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from manyheads.modeling import novelty
from manyheads.modeling.saving import SavedModel
from manyheads.preprocessing.decoding import Sample


class Answers(NamedTuple):
    """Answers for n samples.

    Attributes:
        heads: For each head by name, its columns by name, each of length n; see ``Head.prediction_columns``.
        notes: What is unlike the training data, or an empty text, for each sample.
        confidences: For each head by name, its confidence for each sample, shape (n,), or None; see
            ``Head.confidence``.
    """

    heads: Mapping[str, Mapping[str, Any]]
    notes: Sequence[str]
    confidences: Mapping[str, npt.NDArray[np.float64] | None]


class AnsweringModel:
    """A saved model as a function from decoded samples to answers.

    Attributes:
        card: The description of the model.
        columns: Names of the columns of each head by the head's name, which are the same for all samples.
        dtypes: Dtype of each column of a head by the column's name.
    """

    def __init__(self, saved: SavedModel, short_batches: bool = False) -> None:
        """Prepare the model, which takes a second.

        Args:
            saved: From ``saving.load``.
            short_batches: Whether few samples are computed in a short batch, which takes less time for the same digits;
                see ``Predictor.find_batch_sizes``.
        """
        self.card = saved.card
        self._directions = saved.directions
        self._libraries = ThreadpoolController()
        self._predictor = saved.predictor()
        if short_batches:
            self._predictor.find_batch_sizes(self.card.inputs)
        # A first answer takes longer than those after it. It also tells which columns the heads have.
        zeros = {name: np.zeros(kind.shape, kind.dtype) for name, kind in self.card.inputs.items()}
        first = self([Sample(0, zeros, {name: {} for name in zeros})])
        self.columns = {name: tuple(values) for name, values in first.heads.items()}
        values = {column: each for columns in first.heads.values() for column, each in columns.items()}
        self.dtypes = {column: np.asarray(each).dtype for column, each in values.items()}

    def __call__(self, samples: Sequence[Sample]) -> Answers:
        """Return the answers for samples; each is the same alone and beside others.

        Raises:
            IntegrityError: The record of the training data does not fit the model.
        """
        arrays = {name: np.stack([sample.inputs[name] for sample in samples]) for name in self.card.inputs}
        outputs, features = self._predictor.with_features(arrays)
        heads = {name: head.prediction_columns(outputs[name]) for name, head in self.card.heads.items()}
        notes = [self._unusual(sample) for sample in samples]
        reference = self.card.reference
        if reference and reference.distance_limit is not None and self._directions is not None:
            novelty.check(self._directions, features.shape[1])
            # NumPy would wake its threads for so little work, which then takes ten times as long beside TensorFlow's.
            with self._libraries.limit(limits=1, user_api="blas"):
                distances = novelty.distances(features, self._directions)
            for note, distance in zip(notes, distances, strict=True):
                note += _far(distance, reference.distance_limit)
        confidences = {name: head.confidence(outputs[name]) for name, head in self.card.heads.items()}
        return Answers(heads, ["; ".join(note) for note in notes], confidences)

    def _unusual(self, sample: Sample) -> list[str]:
        reference = self.card.reference
        return novelty.unusual_properties(reference, self.card.inputs, sample.properties) if reference else []


def _far(distance: float, limit: float) -> list[str]:
    usual = f"{1 - novelty.MARKED_SHARE:.0%}".replace("%", " %")
    return [f"distance {distance:.2f}, for {usual} of validation below {limit:.2f}"] if distance > limit else []
