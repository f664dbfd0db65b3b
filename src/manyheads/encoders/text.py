"""Encoders of texts: stacked convolutions over one, a recurrent network for each of several.

F. Chollet, "Deep Learning with Python" (2018), sections 7.1.2 and 7.1.3. The book's listings call ``Embedding`` with
its two arguments the wrong way round; it is ``Embedding(vocabulary, dimensions)``.
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
    """Embedding, stacks of 1-D convolutions with pooling between them, the maximum over the text.

    Attributes:
        embedding: Dimensions of a token's vector.
        stacks: Filters of each convolution of each stack; between stacks stands a pooling.
        kernel: Tokens that a convolution sees.
        pool: Tokens that a pooling makes one of.
        dense: Width of the layer before the heads; 0 for none.
    """

    encoder: Literal["text_convolution"] = "text_convolution"
    embedding: PositiveInt
    stacks: tuple[tuple[PositiveInt, ...], ...] = Field(min_length=1)
    kernel: PositiveInt
    pool: PositiveInt
    dense: int = Field(ge=0)

    @property
    def shortest(self) -> int:
        """Tokens that a text must have for the last convolution to see anything."""
        needed = 1
        for number, stack in enumerate(reversed(self.stacks)):
            needed = (needed if number == 0 else needed * self.pool) + len(stack) * (self.kernel - 1)
        return needed

    def refuse(self, inputs: Mapping[str, Input]) -> str | None:
        texts = [one for one in inputs.values() if isinstance(one, TextInput)]
        if len(inputs) != 1 or not texts:
            return f"takes one text, inputs has {described(inputs)}"
        if texts[0].length < self.shortest:
            return (
                f"needs texts of {self.shortest} tokens, inputs has length {texts[0].length}: raise it or drop stacks"
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
        x = _embedded(inputs[name], tensor, f"{name}_embedded", self.embedding, masked=False)
        for stack, filters in enumerate(self.stacks, start=1):
            if stack > 1:
                x = keras.layers.MaxPooling1D(self.pool, dtype=precision, name=f"stack{stack}_pool")(x)
            for i, width in enumerate(filters, start=1):
                x = keras.layers.Conv1D(
                    width,
                    self.kernel,
                    activation="relu",
                    kernel_initializer="he_normal",
                    dtype=precision,
                    name=f"stack{stack}_{i}",
                )(x)
        x = keras.layers.GlobalMaxPooling1D(dtype="float32", name="pooled")(x)
        if self.dense:
            x = keras.layers.Dense(self.dense, activation="relu", dtype="float32", name="dense")(x)
        return dict.fromkeys(heads, x)


class ReaderEncoder(Encoder):
    """A recurrent network (LSTM: Hochreiter and Schmidhuber, 1997) for each text, joined for the heads.

    Attributes:
        embeddings: Dimensions of a token's vector, for each input.
        units: Width of each input's recurrent network.
    """

    encoder: Literal["reader"] = "reader"
    embeddings: dict[str, PositiveInt]
    units: dict[str, PositiveInt]

    def refuse(self, inputs: Mapping[str, Input]) -> str | None:
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
        read = []
        for name, tensor in tensors.items():
            x = _embedded(inputs[name], tensor, f"{name}_embedded", self.embeddings[name], masked=True)
            read.append(keras.layers.LSTM(self.units[name], dtype=precision, name=f"{name}_read")(x))
        joined = read[0] if len(read) == 1 else keras.layers.Concatenate(dtype="float32", name="joined")(read)
        return dict.fromkeys(heads, joined)


def _embedded(kind: Input, tensor: keras.KerasTensor, name: str, dimensions: int, *, masked: bool) -> keras.KerasTensor:
    import keras

    assert isinstance(kind, TextInput)
    # Keras draws from +-0.05; six layers of ReLU later, what tells the words apart is lost in the biases.
    start = keras.initializers.RandomUniform(-1, 1)
    layer = keras.layers.Embedding(
        kind.vocabulary, dimensions, embeddings_initializer=start, mask_zero=masked, dtype="float32", name=name
    )
    return layer(tensor)
