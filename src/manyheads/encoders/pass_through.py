"""An encoder without layers: the heads take the numbers unchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from manyheads.encoders.base import Encoder, described
from manyheads.inputs import Input, NumbersInput

if TYPE_CHECKING:
    import keras


class PassThroughEncoder(Encoder):
    """Gives every head the numbers of all inputs side by side, so that each head is a linear model."""

    encoder: Literal["pass_through"] = "pass_through"

    def conflict_with(self, inputs: Mapping[str, Input]) -> str | None:
        if all(isinstance(one, NumbersInput) for one in inputs.values()):
            return None
        return f"takes numbers, inputs has {described(inputs)}"

    def features(
        self,
        inputs: Mapping[str, Input],
        tensors: Mapping[str, keras.KerasTensor],
        heads: Sequence[str],
        precision: str,
        *,
        folded: bool,
    ) -> dict[str, keras.KerasTensor]:
        """Return the inputs side by side, shape (batch, sum of widths); see ``Encoder.features``."""
        import keras

        del inputs, precision, folded
        joined = list(tensors.values())
        features = joined[0] if len(joined) == 1 else keras.layers.Concatenate(dtype="float32", name="joined")(joined)
        return dict.fromkeys(heads, features)
