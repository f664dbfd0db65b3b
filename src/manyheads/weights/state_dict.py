"""Reading of a state dict of PyTorch without PyTorch, in the format of its versions before 1.6.

Such a file is five pickles and then the raw numbers. A pickle may name any function to call, so only the three names
that a dictionary of tensors needs are admitted.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from manyheads.errors import IntegrityError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


class _Storage(NamedTuple):
    """A place of numbers that follow after the pickles; a dtype stands for a class of PyTorch."""

    key: str
    dtype: str
    length: int


class _Tensor(NamedTuple):
    """A tensor before its numbers are known."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the tensor, a view of the numbers of its storage, shape (n,)."""
        numbers = [self.offset, *self.shape, *self.strides]
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if min(numbers) < 0 or 0 in self.shape or last >= len(values):  # as_strided would read foreign memory
            raise pickle.UnpicklingError(f"a tensor of shape {self.shape} is not within its numbers")
        strides = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides, writeable=False)


def _tensor(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


class _Unpickler(pickle.Unpickler):
    """Admits tensors and dictionaries alone."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of a dictionary of tensors")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, length, view = pid
        if kind != "storage" or view is not None or dtype not in DTYPES.values():
            raise pickle.UnpicklingError("it has storages of another kind")
        return _Storage(key, dtype, length)


def tensors(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a state dict by name, float32 or int64.

    Args:
        data: The bytes of the file.

    Raises:
        IntegrityError: It is damaged, or holds anything else than tensors.
    """
    try:
        return _tensors(io.BytesIO(data))
    except Exception as error:  # damaged pickles raise errors of any class
        raise IntegrityError(f"not a state dict of PyTorch ({error}): fetch the file again") from error


def _tensors(file: io.BytesIO) -> dict[str, npt.NDArray[Any]]:
    magic, protocol, system = (_Unpickler(file).load() for _ in range(3))
    if (magic, protocol) != (MAGIC, PROTOCOL) or not system["little_endian"]:
        raise pickle.UnpicklingError("it is of another format")
    state, keys = _Unpickler(file).load(), _Unpickler(file).load()
    if not all(isinstance(name, str) and isinstance(each, _Tensor) for name, each in state.items()):
        raise pickle.UnpicklingError("it holds other objects than tensors")
    storages = {each.storage.key: each.storage for each in state.values()}
    values = {key: _numbers(file, storages[key]) for key in keys}
    return {name: each.of(values[each.storage.key]) for name, each in state.items()}


def _numbers(file: io.BytesIO, storage: _Storage) -> npt.NDArray[Any]:
    (length,) = struct.unpack("<q", file.read(8))
    dtype = np.dtype(storage.dtype)
    data = file.read(length * dtype.itemsize) if length == storage.length >= 0 else b""
    if length != storage.length or len(data) != length * dtype.itemsize:
        raise pickle.UnpicklingError("it is truncated")
    return np.frombuffer(data, dtype)
