"""Packed inputs: one array on disk for each input, read through a memory map."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manyheads.errors import IntegrityError
from manyheads.inputs import Input
from manyheads.runtime.exhaustion import raise_if_exhausted


def open_packed(path: Path, kind: Input) -> npt.NDArray[Any]:
    """Map a packed input into memory, read-only; the file is read on access.

    Args:
        path: The ``.npy`` file that pack wrote.
        kind: The input that it was packed for.

    Returns:
        The samples, shape (n, ``*kind.shape``), of ``kind.dtype``.

    Raises:
        IntegrityError: The file is missing, damaged, or has another shape or dtype.
        MachineError: The file cannot be read.
    """
    remedy = "make it again with `python -m manyheads pack` or `dvc repro pack`"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing: {remedy}") from None
    except Exception as error:  # NumPy raises a dozen types for a damaged header
        raise_if_exhausted(path, error)
        raise IntegrityError(f"{path} is damaged ({' '.join(str(error).split())[:200]}): {remedy}") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise IntegrityError(f"{path} is an archive of arrays, not one array: {remedy}")
    if array.dtype != kind.dtype or array.shape[1:] != kind.shape:
        wanted = ", ".join(map(str, ("n", *kind.shape)))
        found = f"{array.dtype} of shape {array.shape}"
        raise IntegrityError(f"{path} holds {found}, not {kind.dtype} of shape ({wanted}): {remedy}")
    return array
