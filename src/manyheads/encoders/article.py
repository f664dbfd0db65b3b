"""The network of the article that this project compares with: a separate branch for each head.

R. Bressan, "Building a multi-output Convolutional Neural Network with Keras" (2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from manyheads.encoders.base import ImageEncoder

if TYPE_CHECKING:
    import keras


class ArticleEncoder(ImageEncoder):
    """A separate branch for each head: three convolutions of 16, 32 and 32 channels, then a dense layer of 128.

    At 198 x 198 pixels and the article's three heads the model has 3,192,648 parameters, as counted from the
    article's code. Where its text and its code disagree, this class follows the code:

    * the text lists convolution, batch normalization, pooling; the code has a ReLU before the normalization;
    * the gender branch makes a greyscale image and then does not use it: all branches see RGB;
    * the text names a learning rate of 4e-4, the code sets 1e-4 (``conf/train/article.yaml``);
    * the text says that gender and race reach 91 % and 78 %; its test reports say 90 % and 80 %.
    """

    encoder: Literal["article"] = "article"

    def image_features(
        self, images: keras.KerasTensor, heads: Sequence[str], precision: str, *, folded: bool
    ) -> dict[str, keras.KerasTensor]:
        """Return 128 features for each head from its own branch; see ``ImageEncoder.image_features``."""
        import keras

        del folded  # a normalization after a ReLU cannot be folded into the convolution before it
        scaled = keras.layers.Rescaling(1 / 255, dtype=precision, name="scaled")(images)
        return {head: self._branch(scaled, head, precision) for head in heads}

    def _branch(self, x: keras.KerasTensor, head: str, precision: str) -> keras.KerasTensor:
        import keras

        for i, (channels, pool) in enumerate([(16, 3), (32, 2), (32, 2)], start=1):
            name = f"{head}_{i}"
            x = keras.layers.Conv2D(
                channels, 3, padding="same", activation="relu", dtype=precision, name=f"{name}_conv"
            )(x)
            x = keras.layers.BatchNormalization(dtype=precision, name=f"{name}_norm")(x)
            x = keras.layers.MaxPooling2D(pool, dtype=precision, name=f"{name}_pool")(x)
            x = keras.layers.Dropout(0.25, dtype=precision, name=f"{name}_dropout")(x)
        x = keras.layers.Flatten(dtype=precision, name=f"{head}_flat")(x)
        x = keras.layers.Dense(128, activation="relu", dtype=precision, name=f"{head}_dense")(x)
        x = keras.layers.BatchNormalization(dtype=precision, name=f"{head}_norm")(x)
        return keras.layers.Dropout(0.5, dtype="float32", name=f"{head}_dropout")(x)
