"""An encoder for any mixture of inputs: a tower for each input, whose features are joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt

from manyheads.encoders.base import Encoder, described
from manyheads.encoders.compact import Trunk, residual_trunk
from manyheads.encoders.layers.dense import dense_layers, set_statistics, standardized
from manyheads.encoders.text import convolved, embedded
from manyheads.inputs import Input

if TYPE_CHECKING:
    import keras


class LateFusionEncoder(Trunk, Encoder):
    """A tower for each input by its ``Input.TOWER``; the features side by side, the same for every head.

    ``image`` is the residual trunk of ``compact``, ``text`` an embedding and convolutions for texts of any length, and
    ``numbers`` dense layers on standardized numbers.

    Attributes:
        embedding: Dimensions of a token's vector.
        stacks: Filters of each convolution of each stack on a text; a pooling layer separates stacks.
        kernel: Width of such a convolution in tokens.
        pool: Width of a pooling window in tokens.
        dense: Width of each layer on numbers.
        dropout: Share of the joined features dropped before the heads.
    """

    encoder: Literal["late_fusion"] = "late_fusion"
    embedding: PositiveInt
    stacks: tuple[tuple[PositiveInt, ...], ...] = Field(min_length=1)
    kernel: PositiveInt
    pool: PositiveInt
    dense: tuple[PositiveInt, ...] = Field(min_length=1)
    dropout: float = Field(ge=0, lt=1)

    def conflict_with(self, inputs: Mapping[str, Input]) -> str | None:
        without = {name: kind for name, kind in inputs.items() if not kind.TOWER}
        return f"has no tower for {described(without)}" if without else None

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

        towers = []
        for name, tensor in tensors.items():
            prefix = f"{name}_"
            match inputs[name].TOWER:
                case "image":
                    tower = residual_trunk(
                        tensor, self.stem, self.widths, self.blocks, precision, folded=folded, prefix=prefix
                    )
                case "text":
                    vectors = embedded(inputs[name], tensor, f"{prefix}embedded", self.embedding, masked=False)
                    tower = convolved(
                        vectors, self.stacks, self.kernel, self.pool, precision, padding="same", prefix=prefix
                    )
                case _:
                    tower = dense_layers(standardized(tensor, name), self.dense, prefix)
            towers.append(tower)
        x = towers[0] if len(towers) == 1 else keras.layers.Concatenate(dtype="float32", name="joined")(towers)
        x = keras.layers.Dropout(self.dropout, dtype="float32", name="dropout")(x)
        return dict.fromkeys(heads, x)

    def adapt(
        self,
        network: keras.Model,
        inputs: Mapping[str, Input],
        arrays: Mapping[str, npt.NDArray[Any]],
        rows: npt.NDArray[np.int64],
    ) -> None:
        for name, kind in inputs.items():
            if kind.TOWER == "numbers":
                set_statistics(network, name, arrays[name][rows])
