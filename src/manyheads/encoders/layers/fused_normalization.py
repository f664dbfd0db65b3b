"""Batch normalization with TensorFlow's fused kernel, for training only: a saved model has it folded away.

Encoders import this module lazily because it imports TensorFlow.
"""

import keras
import tensorflow as tf

MOMENTUM = 0.9
EPSILON = 1e-3


class FusedBatchNormalization(keras.layers.Layer):  # type: ignore[misc]
    """Normalizes channels over batch and space (Ioffe and Szegedy, 2015), NHWC, with float32 statistics.

    ``keras.layers.BatchNormalization`` consists of elementwise operations. On a CPU, their passes over memory take
    longer than the convolutions around them; ``benchmarks/train_step.py`` measures the difference. Under
    ``mixed_bfloat16`` the kernel reads and writes bfloat16 without casts.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create gamma, beta and the moving statistics, shape (channels,), float32."""

        def weight(name: str, initial: str, trainable: bool) -> keras.Variable:
            return self.add_weight(
                shape=(input_shape[-1],),
                initializer=initial,
                trainable=trainable,
                dtype="float32",
                autocast=False,
                name=name,
            )

        self.gamma = weight("gamma", "ones", True)
        self.beta = weight("beta", "zeros", True)
        self.moving_mean = weight("moving_mean", "zeros", False)
        self.moving_variance = weight("moving_variance", "ones", False)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the normalized inputs, of the same shape and dtype."""
        unused = tf.constant([], tf.float32)
        output, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=unused if training else self.moving_mean.value,
            variance=unused if training else self.moving_variance.value,
            epsilon=EPSILON,
            is_training=bool(training),
        )
        if training:
            self.moving_mean.assign(MOMENTUM * self.moving_mean.value + (1 - MOMENTUM) * mean)
            self.moving_variance.assign(MOMENTUM * self.moving_variance.value + (1 - MOMENTUM) * variance)
        return output

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return ``input_shape``."""
        return input_shape
