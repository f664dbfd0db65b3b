"""Inference: folding of a trained network, and prediction of arrays in batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from manyheads.heads import Head, Outputs
from manyheads.inputs import Input
from manyheads.modeling.build import FEATURES, with_features
from manyheads.runtime.hardware import Precision, fastest_precision

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


PREDICTION_BATCH = 64
"""Number of samples in each prediction batch. It is fixed because the order of a processor's sums depends on the batch
size, so that the last digits of an output would as well."""

SHORT_BATCHES = (2, 4, 8, 16, 32)
"""Sizes of shorter batches, which ``Predictor.find_batch_sizes`` tries."""


def fold(trained: keras.Model, folded: keras.Model) -> None:
    """Copy the weights of ``trained`` into ``folded``, the same network built for inference.

    A convolution ``x_conv`` of ``folded`` includes the ``x_norm`` that follows it in ``trained``. Its kernel is
    kernel * gamma / sqrt(variance + epsilon), and its bias is beta - mean * gamma / sqrt(variance + epsilon). All other
    layers keep their weights.

    Args:
        trained: The trained network or model.
        folded: The same network from ``build_network`` with ``folded=True``; its weights are overwritten.
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
    """Return a copy of a network whose layers on feature maps compute in bfloat16, as in a mixed_bfloat16 training.

    Weights, pooled features and outputs stay float32.
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


def traced(model: keras.Model) -> Callable[[dict[str, Any]], dict[str, tf.Tensor]]:
    """Return a model as a function from inputs by name to outputs by name, for any number of samples.

    It is traced here, once. ``keras.Model.predict`` traces again for the shape of a last, short batch, so that
    TensorFlow warns in a process with several models.

    Args:
        model: From ``build_network``, ``compile_model`` or ``saving.load``; later changes of its weights take effect.
    """
    import tensorflow as tf

    def outputs(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        in_order = [inputs[tensor.name] for tensor in model.inputs]
        named: dict[str, tf.Tensor] = model(in_order if len(in_order) > 1 else in_order[0], training=False)
        return named

    signature = {tensor.name: tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs}
    concrete = tf.function(outputs, autograph=False).get_concrete_function(signature)
    return lambda inputs: dict(concrete({name: tf.convert_to_tensor(values) for name, values in inputs.items()}))


class Predictor:
    """A model as a function of arrays, computed in batches of a fixed size."""

    def __init__(
        self,
        model: keras.Model,
        heads: Mapping[str, Head],
        precision: Precision = "float32",
        kinds: Mapping[str, Input] | None = None,
    ) -> None:
        """Prepare a model.

        Args:
            model: From ``build_network`` or ``saving.load``.
            heads: The heads by name.
            precision: With ``mixed_bfloat16``, layers on feature maps compute in bfloat16 on processors with bfloat16
                instructions. It takes a third of the time; outputs differ in the third digit.
            kinds: The inputs by name, see ``Input.is_feature_map``. Without them all layers compute in float32, and the
                features are not known.
        """
        self.heads = dict(heads)
        if precision == fastest_precision() == "mixed_bfloat16":
            model = _in_bfloat16(model, kinds or {})
        if kinds:
            # Even where they are not asked for, so that all uses of a model compute one graph and get the same digits.
            model = with_features(model, kinds)
        self._outputs = traced(model)
        self._batch_sizes: tuple[int, ...] = (PREDICTION_BATCH,)

    def find_batch_sizes(self, kinds: Mapping[str, Input]) -> None:
        """Allow the shorter batches that give the digits of ``PREDICTION_BATCH`` on this machine.

        The order of a processor's sums depends on the shape of a batch and not on its values. So sizes that agree on
        random samples agree on all. A single image takes a tenth of the time in a batch of 2.

        Args:
            kinds: The inputs by name.
        """
        samples = {name: _random(kind) for name, kind in kinds.items()}
        whole = {name: output.numpy() for name, output in self._outputs(samples).items()}
        for size in SHORT_BATCHES:
            short = self._outputs({name: values[:size] for name, values in samples.items()})
            if all(np.array_equal(output, whole[name][:size], equal_nan=True) for name, output in short.items()):
                self._batch_sizes = (*self._batch_sizes, size)

    def __call__(
        self, inputs: Mapping[str, npt.NDArray[Any]], rows: npt.NDArray[np.integer[Any]] | None = None
    ) -> dict[str, Outputs]:
        """Return each head's outputs side by side, shape (n, units), float32.

        Args:
            inputs: Samples of each input by name, shape (n, ...); a memory map is read batch by batch.
            rows: Rows of the samples to predict, in order; all by default.
        """
        return self.with_features(inputs, rows)[0]

    def with_features(
        self, inputs: Mapping[str, npt.NDArray[Any]], rows: npt.NDArray[np.integer[Any]] | None = None
    ) -> tuple[dict[str, Outputs], Outputs]:
        """Return each head's outputs as ``__call__`` does, and the features, shape (n, width), float32.

        The features are what the heads' layers take, side by side; the width is 0 if the network does not mark them.
        """
        collected: dict[str, list[Outputs]] = {name: [] for name in self.heads}
        features: list[Outputs] = []
        rows = np.arange(len(next(iter(inputs.values())))) if rows is None else rows
        for start in range(0, len(rows), PREDICTION_BATCH):
            chosen = rows[start : start + PREDICTION_BATCH]
            size = min(size for size in self._batch_sizes if size >= len(chosen))
            filled = np.resize(chosen, size)  # repeats the samples of a short batch
            batch = self._outputs({name: values[filled] for name, values in inputs.items()})
            values = {name: output.numpy()[: len(chosen)] for name, output in batch.items()}
            for name, head in self.heads.items():
                collected[name].append(outputs_of_head(head, values))
            marked = [output for name, output in values.items() if name.startswith(FEATURES)]
            features.append(np.concatenate([np.zeros((len(chosen), 0), np.float32), *marked], axis=1))
        return {name: np.concatenate(batches) for name, batches in collected.items()}, np.concatenate(features)


def _random(kind: Input) -> npt.NDArray[Any]:
    """Return a batch of random packed samples: bytes, numbers about 0, or the token ids 0 and 1."""
    generator = np.random.default_rng(0)
    shape = (PREDICTION_BATCH, *kind.shape)
    if kind.dtype == "uint8":
        return generator.integers(0, 256, shape, dtype=np.uint8)
    if np.issubdtype(np.dtype(kind.dtype), np.integer):
        return generator.integers(0, 2, shape).astype(kind.dtype)
    return generator.normal(size=shape).astype(kind.dtype)


def outputs_of_head(head: Head, outputs: Mapping[str, npt.NDArray[Any]]) -> Outputs:
    """Return a head's outputs among those of a model as columns, shape (n, units), float32."""
    return np.concatenate([outputs[output] for output in head.output_names(outputs)], axis=1, dtype=np.float32)
