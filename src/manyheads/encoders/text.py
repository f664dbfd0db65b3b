"""Encoders of texts: stacked convolutions over one text, and a recurrent network for each of several texts.

F. Chollet, "Deep Learning with Python" (2018), sections 7.1.2 and 7.1.3. The book's listings swap the two arguments of
``Embedding``; the correct order is ``Embedding(vocabulary, dimensions)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from manyheads.encoders.base import Encoder, described
from manyheads.inputs import Input, TextInput

if TYPE_CHECKING:
    import keras


class TextConvolutionEncoder(Encoder):
    """An embedding, stacks of 1-D convolutions with pooling between them, and the maximum over the text.

    Attributes:
        embedding: Dimensions of a token's vector.
        stacks: Filters of each convolution of each stack; a pooling layer separates stacks.
        kernel: Width of a convolution in tokens.
        pool: Width of a pooling window in tokens.
        dense: Width of the layer before the heads; 0 for none.
    """

    encoder: Literal["text_convolution"] = "text_convolution"
    embedding: PositiveInt
    stacks: tuple[tuple[PositiveInt, ...], ...] = Field(min_length=1)
    kernel: PositiveInt
    pool: PositiveInt
    dense: int = Field(ge=0)

    @property
    def min_length(self) -> int:
        """Smallest text length, in tokens, that the last convolution can take."""
        needed = 1
        for number, stack in enumerate(reversed(self.stacks)):
            needed = (needed if number == 0 else needed * self.pool) + len(stack) * (self.kernel - 1)
        return needed

    def conflict_with(self, inputs: Mapping[str, Input]) -> str | None:
        texts = [one for one in inputs.values() if isinstance(one, TextInput)]
        if len(inputs) != 1 or not texts:
            return f"takes one text, inputs has {described(inputs)}"
        if texts[0].length < self.min_length:
            return (
                f"needs texts of {self.min_length} tokens, inputs has length {texts[0].length}: raise it or drop stacks"
            )
        return None

    def features(
        self,
        inputs: Mapping[str, Input],
        tensors: Mapping[str, keras.KerasTensor],
        heads: Sequence[str],
        precision: str,
        *,
        folded: bool,
    ) -> dict[str, keras.KerasTensor]:
        """Return the same features for every head; see ``Encoder.features``."""
        import keras

        del folded
        ((name, tensor),) = tensors.items()
        x = embedded(inputs[name], tensor, f"{name}_embedded", self.embedding, masked=False)
        x = convolved(x, self.stacks, self.kernel, self.pool, precision)
        if self.dense:
            x = keras.layers.Dense(self.dense, activation="relu", dtype="float32", name="dense")(x)
        return dict.fromkeys(heads, x)


class ReaderEncoder(Encoder):
    """A recurrent network for each text (LSTM: Hochreiter and Schmidhuber, 1997); their outputs are concatenated.

    Attributes:
        embeddings: Dimensions of a token's vector, by input.
        units: Width of the recurrent network, by input.
    """

    encoder: Literal["reader"] = "reader"
    embeddings: dict[str, PositiveInt]
    units: dict[str, PositiveInt]

    def conflict_with(self, inputs: Mapping[str, Input]) -> str | None:
        if not all(isinstance(one, TextInput) for one in inputs.values()):
            return f"takes texts, inputs has {described(inputs)}"
        for key, mapping in (("embeddings", self.embeddings), ("units", self.units)):
            if set(mapping) != set(inputs):
                return f"has {key} for {', '.join(sorted(mapping))}, inputs has {described(inputs)}"
        return None

    def features(
        self,
        inputs: Mapping[str, Input],
        tensors: Mapping[str, keras.KerasTensor],
        heads: Sequence[str],
        precision: str,
        *,
        folded: bool,
    ) -> dict[str, keras.KerasTensor]:
        """Return the same features for every head; see ``Encoder.features``."""
        import keras

        del folded
        encoded = []
        for name, tensor in tensors.items():
            x = embedded(inputs[name], tensor, f"{name}_embedded", self.embeddings[name], masked=True)
            encoded.append(keras.layers.LSTM(self.units[name], dtype=precision, name=f"{name}_read")(x))
        joined = encoded[0] if len(encoded) == 1 else keras.layers.Concatenate(dtype="float32", name="joined")(encoded)
        return dict.fromkeys(heads, joined)


def convolved(
    vectors: keras.KerasTensor,
    stacks: Sequence[Sequence[int]],
    kernel: int,
    pool: int,
    precision: str,
    *,
    padding: str = "valid",
    prefix: str = "",
) -> keras.KerasTensor:
    """Return the maximum over the text of stacked convolutions, shape (batch, ``stacks[-1][-1]``), float32.

    Args:
        vectors: The tokens' vectors, shape (batch, length, dimensions).
        stacks: See ``TextConvolutionEncoder``.
        kernel: See ``TextConvolutionEncoder``.
        pool: See ``TextConvolutionEncoder``.
        precision: Keras dtype policy of the hidden layers.
        padding: With ``same``, a text may be of any length.
        prefix: Start of the layers' names.
    """
    import keras

    x = vectors
    for stack, filters in enumerate(stacks, start=1):
        if stack > 1:
            x = keras.layers.MaxPooling1D(pool, padding=padding, dtype=precision, name=f"{prefix}stack{stack}_pool")(x)
        for i, width in enumerate(filters, start=1):
            x = keras.layers.Conv1D(
                width,
                kernel,
                padding=padding,
                activation="relu",
                kernel_initializer="he_normal",
                dtype=precision,
                name=f"{prefix}stack{stack}_{i}",
            )(x)
    return keras.layers.GlobalMaxPooling1D(dtype="float32", name=f"{prefix}pooled")(x)


def embedded(kind: Input, tensor: keras.KerasTensor, name: str, dimensions: int, *, masked: bool) -> keras.KerasTensor:
    """Return the learned vector of each token, shape (batch, length, dimensions), float32."""
    import keras

    assert isinstance(kind, TextInput)
    # Keras's default range of +-0.05 is too small: after six ReLU layers, differences between words vanish.
    initializer = keras.initializers.RandomUniform(-1, 1)
    layer = keras.layers.Embedding(
        kind.vocabulary, dimensions, embeddings_initializer=initializer, mask_zero=masked, dtype="float32", name=name
    )
    return layer(tensor)
