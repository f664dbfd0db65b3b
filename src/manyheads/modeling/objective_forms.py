"""Two other ways to give the objective to Keras; in ``MultiHeadModel`` the training step computes it.

They allow a comparison of the three ways. A test checks that the results are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from manyheads.modeling.multi_head import MultiHeadModel


class AddedLoss(MultiHeadModel):
    """The same objective as a loss that a layer adds from targets and outputs."""

    def loss_of_batch(self, targets: Any, outputs: Any) -> Any:
        """Return the loss that the layer adds; see ``MultiHeadModel.loss_of_batch``."""
        layer = _Adding(self._objective)
        layer(targets, outputs)
        (objective,) = layer.losses
        return objective


class _Adding(keras.layers.Layer):  # type: ignore[misc]
    def __init__(self, objective: Any) -> None:
        super().__init__(dtype="float32", name="adding")
        self.objective = objective

    def call(self, targets: Any, outputs: Any) -> Any:
        self.add_loss(self.objective(targets, outputs))
        return outputs


class CombinedOutput(MultiHeadModel):
    """The same objective as the loss of one target and one output, which concatenate those of all heads."""

    def loss_of_batch(self, targets: Any, outputs: Any) -> Any:
        """Return the loss of the combined output; see ``MultiHeadModel.loss_of_batch``."""
        target, output = (keras.ops.concatenate(list(each.values()), axis=1) for each in (targets, outputs))
        return self._objective(_columns_of_each(target, targets), _columns_of_each(output, outputs))


def _columns_of_each(combined: Any, like: Mapping[str, Any]) -> dict[str, Any]:
    ends = np.cumsum([values.shape[1] for values in like.values()])
    return dict(zip(like, keras.ops.split(combined, ends[:-1].tolist(), axis=1), strict=True))


FORMS: dict[str, type[MultiHeadModel]] = {
    "training_step": MultiHeadModel,
    "added_loss": AddedLoss,
    "combined_output": CombinedOutput,
}
