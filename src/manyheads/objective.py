"""The objective that a model is trained on: a weighted sum with one term a head, its weights fixed or learned.

Training only: a saved model is the plain network inside, without this class. Imported by ``model.compile_heads`` while
it compiles, for it needs Keras.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    from manyheads.heads import Term


class MultiHead(keras.Model):  # type: ignore[misc]
    """A network together with its objective.

    With fixed weights the objective is ``sum_i w_i L_i`` over the heads' terms. With learned weights it is
    ``sum_i exp(-s_i) L_i + s_i / 2``: each head has one trained scalar, the log variance ``s_i`` of its labels'
    noise, and starts at ``-log w_i`` (homoscedastic uncertainty: Kendall, Gal and Cipolla, CVPR 2018). The paper halves
    the squared error of a Gaussian likelihood; that factor shifts ``s_i`` by a constant log 2 and is left out, so that
    all terms are alike. The weight ``exp(-s_i)`` comes to rest at ``1 / (2 L_i)``.

    Its metrics are ``loss`` (the objective), ``<head>_loss`` (the term, not weighted) and those that follow each head.

    Attributes:
        log_variances: The trained scalar of each head, float32; empty if the weights are fixed.
    """

    def __init__(
        self,
        network: keras.Model,
        terms: Mapping[str, Term],
        weights: Mapping[str, float],
        followed: Mapping[str, list[keras.metrics.Metric]],
        *,
        learned: bool,
    ) -> None:
        """Put an objective on a network, whose layers are shared.

        Args:
            network: A functional model; its outputs go by name.
            terms: Each head's term, a function of all targets and all outputs.
            weights: Weight of each term, or its start; greater than 0 if they are learned.
            followed: Metrics of each head's targets and outputs, with names of their own.
            learned: Whether the weights are learned.
        """
        super().__init__(inputs=network.inputs, outputs=network.output, name=network.name)
        self.terms = dict(terms)
        self.fixed_weights = dict(weights)
        self.log_variances = {
            name: self.add_weight(
                shape=(),
                initializer=keras.initializers.Constant(-np.log(weight)),
                dtype="float32",
                autocast=False,
                name=f"{name}_log_variance",
            )
            for name, weight in (weights if learned else {}).items()
        }
        self.loss_trackers = {name: keras.metrics.Mean(name=f"{name}_loss") for name in terms}
        self.followed = dict(followed)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the objective, a scalar, and follow each head's term; see ``keras.Model.compute_loss``."""
        del x, sample_weight, training
        objective = 0.0
        for name, term in self.terms.items():
            loss = term(y, y_pred)
            # Batches differ in size: an epoch's figure is the mean over its samples.
            self.loss_trackers[name].update_state(loss, sample_weight=keras.ops.shape(y[name])[0])
            if name in self.log_variances:
                log_variance = keras.ops.convert_to_tensor(self.log_variances[name])
                objective += keras.ops.exp(-log_variance) * loss + log_variance / 2
            else:
                objective += self.fixed_weights[name] * loss
        return objective

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Return the figures so far by name; see ``keras.Model.compute_metrics``."""
        del x, sample_weight
        for name, metrics in self.followed.items():
            for metric in metrics:
                metric.update_state(y[name], y_pred[name])
        return dict(self.get_metrics_result())
