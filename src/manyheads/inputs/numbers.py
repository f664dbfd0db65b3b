"""A row of numbers as input."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import PositiveInt

from manyheads.errors import Unreadable
from manyheads.inputs.base import Encoded, Input

if TYPE_CHECKING:
    import keras


class NumbersInput(Input):
    """A row of numbers, float32, without scaling.

    Attributes:
        width: Number of numbers in a row.
    """

    TOWER: ClassVar[str] = "numbers"
    CAN_MIX: ClassVar[bool] = True

    kind: Literal["numbers"] = "numbers"
    width: PositiveInt = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.width,)

    @property
    def dtype(self) -> str:
        return "float32"

    def encode(self, data: bytes) -> Encoded:
        """Return the decimal numbers of a text, separated by blanks; see ``Input.encode``."""
        try:
            with np.errstate(over="ignore"):  # such a number is refused below
                values = np.array([float(word) for word in data.decode("ascii").split()], dtype=np.float32)
        except ValueError:
            raise Unreadable("NUMBER_MALFORMED", f"{data[:40]!r} is not a row of numbers") from None
        if len(values) != self.width:
            raise Unreadable("NUMBER_COUNT", f"{len(values)} numbers, not {self.width}")
        if not np.isfinite(values).all():
            raise Unreadable("NUMBER_MALFORMED", "a number is not finite")
        return Encoded(values, properties={f"number {i}": float(value) for i, value in enumerate(values, 1)})

    @property
    def example(self) -> float | list[float]:
        return 0.0 if self.width == 1 else [0.0] * self.width

    @property
    def instructions(self) -> str:
        return f"{self.width} numbers in the order of the training data, without scaling"

    def tensor(self, name: str) -> keras.KerasTensor:
        import keras

        return keras.Input(self.shape, dtype="float32", name=name)
