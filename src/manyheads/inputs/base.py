"""What every kind of input offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import keras

Array = npt.NDArray[Any]
Draws = npt.NDArray[np.float32]


class Encoded(NamedTuple):
    """A sample's value for one input: ``values`` as they are packed; ``note`` says what was converted."""

    values: Array
    note: str = ""


class Input(BaseModel, ABC):
    """One input of the model: how its bytes become an array of fixed shape, and how the model takes it.

    ``shape``, ``dtype``, ``encode`` and ``tensor`` are required. By default an input is not augmented, has no mirror
    image and no thumbnails, and only samples with equal bytes are duplicates.

    Attributes:
        kind: Name of the kind; a built-in kind is found by the default of this field.
        AUGMENTATION_DRAWS: Random numbers that ``augment`` takes for each sample; 0 if this input is not augmented.
        HAS_MIRROR_IMAGE: Whether ``mirror`` returns something else than it is given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    AUGMENTATION_DRAWS: ClassVar[int] = 0
    HAS_MIRROR_IMAGE: ClassVar[bool] = False

    kind: str

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of a packed sample."""

    @property
    @abstractmethod
    def dtype(self) -> str:
        """NumPy's name of the packed type."""

    @abstractmethod
    def encode(self, data: bytes) -> Encoded:
        """Return what is packed for a sample's bytes; the same for training and prediction.

        Raises:
            Unreadable: The bytes are not what this input reads.
        """

    @abstractmethod
    def tensor(self, name: str) -> keras.KerasTensor:
        """Return the model's input."""

    def fingerprint(self, values: Array) -> npt.NDArray[np.uint8] | None:
        """Return a small greyscale copy of a packed sample that near duplicates are found by, or None.

        Args:
            values: A packed sample, shape ``shape``.

        Returns:
            Shape (height, width), uint8, with an even width; None if only equal bytes make duplicates.
        """
        del values
        return None

    @property
    def near_duplicate_correlation(self) -> float:
        """Correlation of two fingerprints, or of one and the other mirrored, from which two samples are duplicates."""
        return 1.0

    def augment(self, values: Array, draws: Draws, strength: float) -> Array:
        """Return a batch of packed samples changed at random.

        Args:
            values: Shape (n, ``*shape``), of ``dtype``; not changed.
            draws: Uniform in [0, 1), shape (n, ``AUGMENTATION_DRAWS``); each sample depends on its own row alone.
            strength: How strong the changes are, above 0 and at most 1.

        Returns:
            An array of the same shape and dtype.
        """
        del draws, strength
        return values

    def mirror(self, tensor: keras.KerasTensor) -> keras.KerasTensor:
        """Return a batch's mirror image, which ``train.flip_tta`` averages predictions over.

        Args:
            tensor: The model's input, as ``tensor`` gives it.
        """
        return tensor

    def is_feature_map(self, output: keras.KerasTensor) -> bool:
        """Return whether a layer's output still has the rows and columns of this input.

        ``predict`` computes these layers in bfloat16 after a training in ``mixed_bfloat16``.
        """
        del output
        return False

    def thumbnails(self, values: Array) -> list[bytes] | None:
        """Return a JPEG of each packed sample for the report, or None if this input is not shown.

        Args:
            values: Shape (n, ``*shape``), of ``dtype``; n may be 0.
        """
        del values
        return None
