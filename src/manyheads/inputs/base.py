"""The interface of all input kinds."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Mapping
from numbers import Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from manyheads.errors import Unreadable

if TYPE_CHECKING:
    import keras

Array = npt.NDArray[Any]
SLACK = 0.1
Draws = npt.NDArray[np.float32]
"""Random numbers of an augmentation, uniform in [0, 1), shape (n, ``AUGMENTATION_DRAWS``)."""


class Rectangle(NamedTuple):
    """A rectangle within a sample, as shares of its height and width."""

    top: float
    bottom: float
    left: float
    right: float

    @property
    def area(self) -> float:
        """Share of the sample."""
        return (self.bottom - self.top) * (self.right - self.left)


NO_PROPERTIES: Mapping[str, float] = MappingProxyType({})


class Encoded(NamedTuple):
    """One input of a sample.

    Attributes:
        values: The packed values.
        note: Remark on any conversion, or an empty text.
        properties: Numbers by name that tell whether a sample is like others, such as the size of an image. Each sample
            of an input has the same names. A prediction notes a number that is outside of those of the training subset,
            see ``Input.usual_range``.
    """

    values: Array
    note: str = ""
    properties: Mapping[str, float] = NO_PROPERTIES


class Input(BaseModel, ABC):
    """One input of the model: how its bytes become an array of fixed shape, and how the model takes it.

    A kind implements ``shape``, ``dtype``, ``encode`` and ``tensor``. By default an input is not augmented, has no
    mirror image and no thumbnails, and only samples with equal bytes are duplicates.

    Attributes:
        kind: Name of the kind, or a reference to a class of an extension.
        TOWER: What an encoder of any inputs reads it as: ``image``, ``text`` or ``numbers``; empty if it cannot.
        FILE_SUFFIXES: Endings of the files that samples are, in lower case and with the dot; a table has the path of
            the file in its cell. Empty if samples are texts.
        AUGMENTATION_DRAWS: Number of random numbers that ``augment`` takes per sample; 0 without augmentation.
        HAS_MIRROR_IMAGE: Whether ``mirror`` changes its argument.
        CAN_MIX: Whether a weighted mean of two samples is a sample; see ``mix``.
        CAN_PASTE: Whether a part of a sample can be that of another one; see ``paste``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    TOWER: ClassVar[str] = ""
    FILE_SUFFIXES: ClassVar[tuple[str, ...]] = ()
    AUGMENTATION_DRAWS: ClassVar[int] = 0
    HAS_MIRROR_IMAGE: ClassVar[bool] = False
    CAN_MIX: ClassVar[bool] = False
    CAN_PASTE: ClassVar[bool] = False

    kind: str

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of a packed sample."""

    @property
    @abstractmethod
    def dtype(self) -> str:
        """NumPy dtype of a packed sample, such as ``uint8``."""

    @abstractmethod
    def encode(self, data: bytes) -> Encoded:
        """Return the packed values for a sample's bytes; training and prediction use the same function.

        Raises:
            Unreadable: This input cannot read the bytes.
        """

    def bytes_of(self, value: Any) -> bytes:
        """Return the bytes of a sample for a value of JSON or of a data frame, for ``encode``.

        Args:
            value: The bytes themselves; the bytes of a file in base64, if samples are files; otherwise a text, a
                number or several numbers.

        Raises:
            Unreadable: The value is of another type, or no base64.

        Example:
            >>> from manyheads.inputs import NumbersInput
            >>> NumbersInput(width=2).bytes_of([0.1, 3])
            b'0.1 3.0'
        """
        if isinstance(value, bytes):
            return value
        if isinstance(value, str):
            try:
                return base64.b64decode(value, validate=True) if self.FILE_SUFFIXES else value.encode()
            except ValueError as error:  # of binascii, or a lone surrogate
                wanted = "base64" if self.FILE_SUFFIXES else "UTF-8"
                raise Unreadable("VALUE_MALFORMED", f"not {wanted}: {error}") from None
        numbers = value.tolist() if isinstance(value, np.ndarray) else value
        numbers = numbers if isinstance(numbers, list | tuple) else [numbers]
        if self.FILE_SUFFIXES or not all(isinstance(n, Real) and not isinstance(n, bool) for n in numbers):
            raise Unreadable("VALUE_MALFORMED", f"{type(value).__name__} is of another type than the input takes")
        try:
            return " ".join(repr(float(n)) for n in numbers).encode()
        except OverflowError:
            raise Unreadable("VALUE_MALFORMED", "a number is too large") from None

    @property
    def example(self) -> bytes | str | float | list[float]:
        """A made-up value for ``bytes_of``, which shows how a sample is given; an empty one by default."""
        return b"" if self.FILE_SUFFIXES else ""

    @property
    def instructions(self) -> str:
        """How another program makes the packed values of a sample, for people who have the exported model alone."""
        return (type(self).__doc__ or self.kind).splitlines()[0]

    @abstractmethod
    def tensor(self, name: str) -> keras.KerasTensor:
        """Return the model's input as a symbolic tensor, shape (batch, ...)."""

    def usual_range(self, name: str, low: float, high: float) -> tuple[float, float]:
        """Return the smallest and the largest value of a property that a prediction does not note.

        By default, the training's range and a tenth of it to either side.

        Args:
            name: Name of the property, see ``Encoded``.
            low: Its smallest value in the training subset.
            high: Its largest value in the training subset.
        """
        del name
        slack = SLACK * (high - low)
        return low - slack, high + slack

    def fingerprint(self, values: Array) -> npt.NDArray[np.uint8] | None:
        """Return a small greyscale copy of a packed sample for the search of near duplicates, or None.

        Args:
            values: A packed sample, shape ``shape``.

        Returns:
            Shape (height, width), uint8, with an even width; None if only samples with equal bytes are duplicates.
        """
        del values
        return None

    @property
    def near_duplicate_correlation(self) -> float:
        """Smallest correlation of the fingerprints of near duplicates; one of the two may be mirrored."""
        return 1.0

    def augment(self, values: Array, draws: Draws, strength: float) -> Array:
        """Return a batch of packed samples with random changes.

        Args:
            values: Shape (n, ``*shape``), of ``dtype``; not changed.
            draws: Uniform random numbers in [0, 1), shape (n, ``AUGMENTATION_DRAWS``), one row per sample.
            strength: Strength of the changes, above 0 and at most 1.

        Returns:
            An array of the same shape and dtype.
        """
        del draws, strength
        return values

    def mix(self, values: Array, share: float) -> Array:
        """Return the weighted mean of a batch and the reversed batch, of the same shape and dtype.

        Args:
            values: Shape (n, ``*shape``), of ``dtype``.
            share: Weight of the batch itself, from 0.5 to 1.
        """
        flat = values.reshape(len(values), -1)
        return cv2.addWeighted(flat, share, flat[::-1], 1 - share, 0).reshape(values.shape)

    def paste(self, values: Array, place: Rectangle) -> Array:
        """Return a batch with a rectangle of the reversed batch in each sample, of the same shape and dtype.

        Args:
            values: Shape (n, ``*shape``), of ``dtype``; not changed.
            place: The rectangle, the same in all samples.
        """
        del place
        return values

    def mirror(self, tensor: keras.KerasTensor) -> keras.KerasTensor:
        """Return the mirror image of a batch; with ``train.flip_tta``, predictions are means over both.

        Args:
            tensor: The model's input, from ``tensor``.
        """
        return tensor

    def is_feature_map(self, output: keras.KerasTensor) -> bool:
        """Return whether a layer's output is a feature map of this input, with rows and columns.

        Prediction computes these layers in bfloat16 after a training in ``mixed_bfloat16``.
        """
        del output
        return False

    def thumbnails(self, values: Array) -> list[bytes] | None:
        """Return a JPEG of each packed sample for the report, or None if the report shows none for this input.

        Args:
            values: Shape (n, ``*shape``), of ``dtype``; n may be 0.
        """
        del values
        return None
