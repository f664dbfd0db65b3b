"""Inference: the folded network, and a saved model as a function of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from manyheads.heads import Head, Outputs
from manyheads.inputs import Input
from manyheads.runtime.hardware import Precision, fastest_precision

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


PREDICTION_BATCH = 64
"""Samples that are predicted together. Always so many, for in batches of other sizes the processor's kernels add up in
another order, and a sample would get other last digits alone than among others."""


def fold(trained: keras.Model, folded: keras.Model) -> None:
    """Copy the weights of ``trained`` into ``folded``, the same network built for inference.

    A convolution ``x_conv`` of the folded model takes in the ``x_norm`` that followed it:
    kernel * gamma / sqrt(variance + epsilon), and beta - mean * gamma / sqrt(variance + epsilon) as its bias. All
    other layers take their weights over as they are.
    """
    layers = {layer.name: layer for layer in trained.layers}
    for layer in folded.layers:
        if not layer.weights:
            continue
        norm = layers.get(layer.name.removesuffix("_conv") + "_norm")
        if len(layer.weights) == len(layers[layer.name].weights):
            layer.set_weights(layers[layer.name].get_weights())
        elif norm is not None:
            from manyheads.encoders.layers.fused_normalization import EPSILON

            (kernel,) = layers[layer.name].get_weights()
            gamma, beta, mean, variance = (
                np.asarray(weight) for weight in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
            )
            factor = gamma / np.sqrt(variance + EPSILON)
            layer.set_weights([kernel * factor, beta - mean * factor])


def _in_bfloat16(network: keras.Model, kinds: Mapping[str, Input]) -> keras.Model:
    """Return a copy of a network whose layers on feature maps compute in bfloat16, as they do in such a training.

    Weights, pooled features and outputs are float32 there, too.
    """
    import keras

    def copied(operation: keras.Operation) -> keras.Operation:
        settings = operation.get_config()
        if isinstance(operation, keras.Layer) and any(kind.is_feature_map(operation.output) for kind in kinds.values()):
            settings["dtype"] = "mixed_bfloat16"
        return type(operation).from_config(settings)

    copy = keras.models.clone_model(network, clone_function=copied, recursive=True)
    copy.set_weights(network.get_weights())
    return copy


class Predictor:
    """A model as a function of arrays, in batches of one size."""

    def __init__(
        self,
        model: keras.Model,
        heads: Mapping[str, Head],
        precision: Precision = "float32",
        kinds: Mapping[str, Input] | None = None,
    ) -> None:
        """Prepare a model.

        Args:
            model: From ``build`` or ``load``.
            heads: Its heads by name.
            precision: With ``mixed_bfloat16`` layers on feature maps compute in bfloat16 where the processor does that
                fast, in a third of the time: outputs differ in the third digit, as they do in such a training.
            kinds: What its inputs are, by name; they say what a feature map is, see ``Input.is_feature_map``. Without
                them all layers compute in float32.
        """
        import tensorflow as tf

        self.heads = dict(heads)
        if precision == fastest_precision() == "mixed_bfloat16":
            model = _in_bfloat16(model, kinds or {})

        def outputs(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            in_order = [inputs[tensor.name] for tensor in model.inputs]
            named: dict[str, tf.Tensor] = model(in_order if len(in_order) > 1 else in_order[0], training=False)
            return named

        signature = {tensor.name: tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs}
        self._outputs = tf.function(outputs, input_signature=[signature])

    def __call__(
        self, inputs: Mapping[str, npt.NDArray[Any]], rows: npt.NDArray[np.integer[Any]] | None = None
    ) -> dict[str, Outputs]:
        """Return each head's outputs side by side, shape (n, units), float32.

        Args:
            inputs: Each input's samples, shape (n, ...); a memory map is read batch by batch.
            rows: Which of the samples, and in which order; all by default.
        """
        collected: dict[str, list[Outputs]] = {name: [] for name in self.heads}
        rows = np.arange(len(next(iter(inputs.values())))) if rows is None else rows
        for start in range(0, len(rows), PREDICTION_BATCH):
            chosen = rows[start : start + PREDICTION_BATCH]
            filled = np.resize(chosen, PREDICTION_BATCH)  # a short one with its own samples, again
            batch = self._outputs({name: values[filled] for name, values in inputs.items()})
            values = {name: output.numpy()[: len(chosen)] for name, output in batch.items()}
            for name, head in self.heads.items():
                collected[name].append(outputs_of_head(head, values))
        return {name: np.concatenate(parts) for name, parts in collected.items()}


def outputs_of_head(head: Head, outputs: Mapping[str, npt.NDArray[Any]]) -> Outputs:
    """Return those of a model's outputs that are a head's as columns, shape (n, units), float32."""
    return np.concatenate([outputs[output] for output in head.output_names(outputs)], axis=1, dtype=np.float32)
