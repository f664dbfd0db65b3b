"""The Keras model for training: a network with its objective.

A saved model is the network without the objective. This module is imported lazily because it imports Keras.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from manyheads.heads import Head
from manyheads.modeling.objective import MIXUP, Objective


class MultiHeadModel(keras.Model):  # type: ignore[misc]
    """A network with its objective.

    With fixed weights the objective is ``sum_i w_i L_i`` over the heads' losses. With learned weights it is
    ``sum_i exp(-s_i) L_i + s_i / 2``: each head has one trained scalar, the log variance ``s_i`` of its labels'
    noise, which starts at ``-log w_i`` (homoscedastic uncertainty: Kendall, Gal and Cipolla, CVPR 2018). The paper
    halves the squared error of a Gaussian likelihood. That factor shifts ``s_i`` by the constant log 2. It is left
    out, so that all losses have the same form. The weight ``exp(-s_i)`` converges to ``1 / (2 L_i)``.

    Its metrics are ``loss`` (the objective), ``<head>_loss`` (without its weight) and those of
    ``Head.training_metrics``.

    Attributes:
        objective: One entry per head.
        log_variances: The trained scalar of each head, float32; empty if the weights are fixed.
    """

    def __init__(self, network: keras.Model, objective: Objective, *, learned: bool = False) -> None:
        """Combine a network with an objective; the layers are shared.

        Args:
            network: A functional model with a dictionary of outputs.
            objective: One entry per head; learned weights start above 0.
            learned: Whether the weights of the losses are learned.
        """
        super().__init__(inputs=network.inputs, outputs=network.output, name=network.name)
        self.objective = objective
        self.losses_by_head = {each.name: each.loss() for each in objective}
        self.incomplete = frozenset(each.name for each in objective if not each.complete)
        self.fixed_weights = {each.name: each.weight for each in objective}
        self.log_variances = {
            each.name: self.add_weight(
                shape=(),
                initializer=keras.initializers.Constant(-np.log(each.weight)),
                dtype="float32",
                autocast=False,
                name=f"{each.name}_log_variance",
            )
            for each in (objective if learned else ())
        }
        self.loss_trackers = {each.name: keras.metrics.Mean(name=f"{each.name}_loss") for each in objective}
        self.training_metrics = {each.name: each.head.training_metrics() for each in objective}

    @property
    def heads(self) -> dict[str, Head]:
        """The heads by name."""
        return {each.name: each.head for each in self.objective}

    def losses_of(self, targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, float]:
        """Return the loss of each head by name, and the objective as ``loss``, for all samples of a subset.

        Args:
            targets: Targets of each head by name, shape (n, units); NaN where a label is missing.
            outputs: All outputs by name, shape (n, units).
        """
        losses = {}
        for name, loss in self.losses_by_head.items():
            known = np.isfinite(targets[name]).all(axis=1)
            chosen = [{key: values[known] for key, values in each.items()} for each in (targets, outputs)]
            losses[name] = float(loss(*chosen)) if known.any() else 0.0
        return {**losses, "loss": sum(float(self._weighted(name, value)) for name, value in losses.items())}

    def _weighted(self, name: str, loss: Any) -> Any:
        """Return a head's contribution to the objective, a scalar."""
        if name not in self.log_variances:
            return self.fixed_weights[name] * loss
        log_variance = keras.ops.convert_to_tensor(self.log_variances[name])
        return keras.ops.exp(-log_variance) * loss + log_variance / 2

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the objective, a scalar, and track each head's loss; see ``keras.Model.compute_loss``."""
        del x, sample_weight, training
        return self.loss_of_batch(y, y_pred)

    def loss_of_batch(self, targets: Any, outputs: Any) -> Any:
        """Return the objective of a batch, a scalar; the other forms of the objective override this.

        Args:
            targets: Tensors of shape (batch, units) by the heads' names.
            outputs: Tensors of shape (batch, units) by the outputs' names.
        """
        return self._objective(targets, outputs)

    def _objective(self, targets: Any, outputs: Any) -> Any:
        objective = 0.0
        partners = {key: values[::-1] for key, values in targets.items()} if MIXUP in targets else {}
        for name in self.losses_by_head:
            loss, n = self._loss_of_head(name, targets, outputs)
            if partners:
                share, (of_partners, _) = targets[MIXUP][0, 0], self._loss_of_head(name, partners, outputs)
                loss = share * loss + (1 - share) * of_partners
            # The loss of an epoch is a mean over samples, and batches differ in size.
            self.loss_trackers[name].update_state(loss, sample_weight=n)
            objective += self._weighted(name, loss)
        return objective

    def _loss_of_head(self, name: str, targets: Any, outputs: Any) -> tuple[Any, Any]:
        """Return a head's loss without its weight, a scalar, and the number of samples with a known label."""
        loss_of = self.losses_by_head[name]
        known_targets, known_outputs, n = self._known(name, targets, outputs)
        if name in self.incomplete:  # a batch may have no label of this head
            return tf.cond(n > 0, functools.partial(loss_of, known_targets, known_outputs), lambda: 0.0), n
        return loss_of(known_targets, known_outputs), n

    def _known(self, name: str, targets: Any, outputs: Any) -> tuple[Any, Any, Any]:
        """Return the targets and outputs of samples with a known label of this head, and their number."""
        if name not in self.incomplete:
            return targets, outputs, keras.ops.shape(targets[name])[0]
        rows = tf.where(tf.reduce_all(tf.math.is_finite(targets[name]), axis=1))[:, 0]
        known_targets, known_outputs = (
            {key: tf.gather(values, rows) for key, values in each.items()} for each in (targets, outputs)
        )
        return known_targets, known_outputs, tf.size(rows)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Return the metrics so far by name; see ``keras.Model.compute_metrics``."""
        del x, sample_weight
        for name, metrics in self.training_metrics.items():
            targets, outputs, _ = self._known(name, y, y_pred)
            for metric in metrics:
                metric.update_state(targets[name], outputs[name])
        return dict(self.get_metrics_result())
