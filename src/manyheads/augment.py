"""Random changes to training images, as one TensorFlow function on a batch."""

from __future__ import annotations

import tensorflow as tf

SHIFT = 0.08  # of the height and width
BRIGHTNESS = 0.12  # of the full range
CONTRAST = 0.2
ERASED = (0.1, 0.3)  # side of the erased square, of the height and width
ERASE_PROBABILITY = 0.5


def augment(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Flip, shift, erase, and vary brightness and contrast of each image on its own.

    Hue and saturation are left alone: skin tone is a signal, not noise. The random numbers depend on ``seed`` only,
    so an interrupted training sees the same images when it goes on.

    Args:
        images: Shape (batch, height, width, 3), uint8.
        seed: Shape (2,), int32.

    Returns:
        Images of the same shape and dtype.
    """
    shape = tf.shape(images)
    batch, height, width = shape[0], shape[1], shape[2]
    seeds = tf.unstack(tf.random.split(seed, 9))

    def uniform(i: int, low: float, high: float) -> tf.Tensor:
        return tf.random.stateless_uniform((batch,), seeds[i], low, high)

    rows = tf.tile(tf.range(height)[None], [batch, 1])
    columns = tf.tile(tf.range(width)[None], [batch, 1])
    columns = tf.where((uniform(0, 0, 1) < 0.5)[:, None], columns[:, ::-1], columns)
    down = tf.cast(tf.round(uniform(1, -SHIFT, SHIFT) * tf.cast(height, tf.float32)), tf.int32)
    right = tf.cast(tf.round(uniform(2, -SHIFT, SHIFT) * tf.cast(width, tf.float32)), tf.int32)
    rows = tf.clip_by_value(rows + down[:, None], 0, height - 1)
    columns = tf.clip_by_value(columns + right[:, None], 0, width - 1)
    moved = tf.gather(tf.gather(images, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)

    values = tf.cast(moved, tf.float32)
    mean = tf.reduce_mean(values, axis=(1, 2, 3), keepdims=True)
    side = uniform(5, *ERASED)
    top, left = uniform(6, 0, 1) * (1 - side), uniform(7, 0, 1) * (1 - side)
    y = (tf.range(height, dtype=tf.float32) / tf.cast(height, tf.float32))[None]
    x = (tf.range(width, dtype=tf.float32) / tf.cast(width, tf.float32))[None]
    inside_y = (y >= top[:, None]) & (y < (top + side)[:, None])
    inside_x = (x >= left[:, None]) & (x < (left + side)[:, None])
    chosen = uniform(8, 0, 1) < ERASE_PROBABILITY
    erased = (inside_y[:, :, None] & inside_x[:, None, :] & chosen[:, None, None])[..., None]
    values = tf.where(erased, mean, values)

    contrast = uniform(3, 1 - CONTRAST, 1 + CONTRAST)[:, None, None, None]
    brightness = uniform(4, -BRIGHTNESS, BRIGHTNESS)[:, None, None, None] * 255
    values = (values - mean) * contrast + mean + brightness
    return tf.cast(tf.clip_by_value(tf.round(values), 0, 255), tf.uint8)
