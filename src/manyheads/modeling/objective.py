"""The objective that a model is trained on: a weighted sum with one term a head, its weights fixed or learned.

Training only: a saved model is the plain network inside, without this class. Imported by ``model.compile_heads`` while
it compiles, for it needs Keras.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from manyheads.heads import Term


class MultiHeadModel(keras.Model):  # type: ignore[misc]
    """A network together with its objective.

    With fixed weights the objective is ``sum_i w_i L_i`` over the heads' terms. With learned weights it is
    ``sum_i exp(-s_i) L_i + s_i / 2``: each head has one trained scalar, the log variance ``s_i`` of its labels'
    noise, and starts at ``-log w_i`` (homoscedastic uncertainty: Kendall, Gal and Cipolla, CVPR 2018). The paper halves
    the squared error of a Gaussian likelihood; that factor shifts ``s_i`` by a constant log 2 and is left out, so that
    all terms are alike. The weight ``exp(-s_i)`` comes to rest at ``1 / (2 L_i)``.

    Its metrics are ``loss`` (the objective), ``<head>_loss`` (the term, not weighted) and those that follow each head.

    With ``ema_decay`` it also keeps an exponential moving average of its weights, normalisation's statistics among
    them (Polyak and Juditsky, 1992). Its share of the past grows from 1/10 to ``ema_decay`` as training goes on.

    Attributes:
        log_variances: The trained scalar of each head, float32; empty if the weights are fixed.
        averages: The average of each of ``weights``, in their order; empty without averaging.
    """

    def __init__(
        self,
        network: keras.Model,
        terms: Mapping[str, Term],
        weights: Mapping[str, float],
        followed: Mapping[str, list[keras.metrics.Metric]],
        *,
        learned: bool,
        ema_decay: float,
        incomplete: Collection[str] = (),
    ) -> None:
        """Put an objective on a network, whose layers are shared.

        Args:
            network: A functional model; its outputs go by name.
            terms: Each head's term, a function of all targets and all outputs.
            weights: Weight of each term, or its start; greater than 0 if they are learned.
            followed: Metrics of each head's targets and outputs, with names of their own.
            learned: Whether the weights are learned.
            ema_decay: How much of the average each step keeps, from 0 (no averaging) to below 1.
            incomplete: Heads some of whose labels are missing: their terms are means over the others.
        """
        super().__init__(inputs=network.inputs, outputs=network.output, name=network.name)
        self.terms = dict(terms)
        self.incomplete = frozenset(incomplete)
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
        self.ema_decay = ema_decay
        # Not Keras's variables: they are no part of the model, and are neither trained nor counted.
        self.averages = [tf.Variable(weight) for weight in self.weights] if ema_decay else []

    def train_step(self, data: Any) -> Any:
        """Take a step, and the averages along; see ``keras.Model.train_step``."""
        logs = super().train_step(data)
        if self.averages:
            step = tf.cast(self.optimizer.iterations.value, tf.float32)
            kept = tf.minimum(self.ema_decay, (1 + step) / (10 + step))
            for average, weight in zip(self.averages, self.weights, strict=True):
                average.assign_add((1 - kept) * (tf.cast(weight.value, average.dtype) - average))
        return logs

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the averaged weights in the body, and those of the last step again after it."""
        last = [weight.numpy() for weight in self.weights] if self.averages else []
        for weight, average in zip(self.weights, self.averages, strict=False):
            weight.assign(average)
        try:
            yield
        finally:
            for weight, value in zip(self.weights, last, strict=False):
                weight.assign(value)

    def losses_of(self, targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, float]:
        """Return each head's term and the objective, as ``loss``, for arrays of whole parts."""
        terms = {}
        for name, term in self.terms.items():
            known = np.isfinite(targets[name]).all(axis=1)
            chosen = [{key: values[known] for key, values in each.items()} for each in (targets, outputs)]
            terms[name] = float(term(*chosen)) if known.any() else 0.0
        return {**terms, "loss": sum(float(self._weighted(name, loss)) for name, loss in terms.items())}

    def _weighted(self, name: str, loss: Any) -> Any:
        """Return what a head adds to the objective, a scalar."""
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
        """Return the objective, a scalar, and follow each head's term; see ``keras.Model.compute_loss``."""
        del x, sample_weight, training
        return self._objective(y, y_pred)

    def _objective(self, targets: Any, outputs: Any) -> Any:
        objective = 0.0
        for name, term in self.terms.items():
            known_targets, known_outputs, n = self._known(name, targets, outputs)
            if name in self.incomplete:  # a batch may have no label of this head at all
                loss = tf.cond(n > 0, functools.partial(term, known_targets, known_outputs), lambda: 0.0)
            else:
                loss = term(known_targets, known_outputs)
            # Batches differ in size: an epoch's figure is the mean over its samples.
            self.loss_trackers[name].update_state(loss, sample_weight=n)
            objective += self._weighted(name, loss)
        return objective

    def _known(self, name: str, targets: Any, outputs: Any) -> tuple[Any, Any, Any]:
        """Return the targets and outputs of the samples whose label for this head is known, and how many they are."""
        if name not in self.incomplete:
            return targets, outputs, keras.ops.shape(targets[name])[0]
        rows = tf.where(tf.reduce_all(tf.math.is_finite(targets[name]), axis=1))[:, 0]
        known_targets, known_outputs = (
            {key: tf.gather(values, rows) for key, values in each.items()} for each in (targets, outputs)
        )
        return known_targets, known_outputs, tf.size(rows)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Return the figures so far by name; see ``keras.Model.compute_metrics``."""
        del x, sample_weight
        for name, metrics in self.followed.items():
            targets, outputs, _ = self._known(name, y, y_pred)
            for metric in metrics:
                metric.update_state(targets[name], outputs[name])
        return dict(self.get_metrics_result())


class AddedLoss(MultiHeadModel):
    """The same objective, added by a layer that gets targets and outputs, instead of by the training step."""

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return what the layer added; see ``keras.Model.compute_loss``."""
        del x, sample_weight, training
        layer = _Adding(self._objective)
        layer(y, y_pred)
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
    """The same objective, as a loss of one target and one output that are all heads' side by side."""

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the loss of the combined output; see ``keras.Model.compute_loss``."""
        del x, sample_weight, training
        target, output = (keras.ops.concatenate(list(each.values()), axis=1) for each in (y, y_pred))
        return self._objective(_columns_of_each(target, y), _columns_of_each(output, y_pred))


def _columns_of_each(combined: Any, like: Mapping[str, Any]) -> dict[str, Any]:
    ends = np.cumsum([values.shape[1] for values in like.values()])
    return dict(zip(like, keras.ops.split(combined, ends[:-1].tolist(), axis=1), strict=True))


FORMS: dict[str, type[MultiHeadModel]] = {
    "training_step": MultiHeadModel,
    "added_loss": AddedLoss,
    "combined_output": CombinedOutput,
}
