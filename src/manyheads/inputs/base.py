"""What every kind of input offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import keras

Array = npt.NDArray[Any]


class Encoded(NamedTuple):
    """A sample's value for one input: ``values`` as they are packed; ``note`` says what was converted."""

    values: Array
    note: str = ""


class Input(BaseModel, ABC):
    """One input of the model: how its bytes become an array of fixed shape, and how the model takes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of a packed sample."""

    @property
    @abstractmethod
    def dtype(self) -> str:
        """NumPy's name of the packed type."""

    @property
    @abstractmethod
    def words(self) -> str:
        """What it is, in words, for the cards."""

    @abstractmethod
    def encode(self, data: bytes) -> Encoded:
        """Return what is packed for a sample's bytes; the same for training and prediction.

        Raises:
            Unreadable: The bytes are not what this input reads.
        """

    def fingerprint(self, values: Array) -> npt.NDArray[np.uint8] | None:
        """Return what duplicates are recognised by that are not byte-identical, or None if nothing is."""
        del values
        return None

    @abstractmethod
    def tensor(self, name: str) -> keras.KerasTensor:
        """Return the model's input."""
