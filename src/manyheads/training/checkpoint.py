"""The checkpoint of a training: one file that is written after each epoch and that a stopped training resumes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, NonNegativeInt, model_validator

from manyheads.errors import IntegrityError
from manyheads.runtime.exhaustion import raise_if_exhausted
from manyheads.runtime.files import atomic_write
from manyheads.runtime.locks import exclusive_lock

if TYPE_CHECKING:
    import keras

    from manyheads.modeling.multi_head import MultiHeadModel


Row = dict[str, float]
"""The metrics of one epoch by name."""


@dataclass
class Progress:
    """The progress of a training, which its checkpoint contains.

    Attributes:
        history: One row of metrics for each finished epoch.
        best_epoch: Epoch of the highest score, counted from 1; 0 before the first.
        best_weights: The model's variables at that epoch.
        run_id: Id of the MLflow run of the training, or an empty text.
        fingerprint: The fingerprint of the training; see ``training.fingerprint``.
    """

    history: list[Row] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: list[npt.NDArray[Any]] = field(default_factory=list)
    run_id: str = ""
    fingerprint: Mapping[str, str] = field(default_factory=dict)

    @property
    def best_row(self) -> Row:
        """The metrics of the best epoch."""
        return self.history[self.best_epoch - 1]


class _About(BaseModel):
    """What a checkpoint has beside its arrays; the attributes are those of ``Progress``."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    history: list[Row]
    best_epoch: NonNegativeInt
    run_id: str
    fingerprint: dict[str, str]

    @model_validator(mode="after")
    def _epochs_are_there(self) -> Self:
        if self.best_epoch > len(self.history):
            raise ValueError(f"the best epoch is {self.best_epoch} of {len(self.history)}")
        return self


def _variables(model: MultiHeadModel) -> list[keras.Variable]:
    return [*model.variables, *model.optimizer.variables]


def save_checkpoint(path: Path, model: MultiHeadModel, progress: Progress) -> None:
    """Write the checkpoint of a training atomically.

    Args:
        path: The checkpoint.
        model: The model; its variables and those of its optimizer are saved.
        progress: The finished epochs.

    Raises:
        MachineError: The file cannot be written.
    """
    about = _About(
        history=progress.history,
        best_epoch=progress.best_epoch,
        run_id=progress.run_id,
        fingerprint=dict(progress.fingerprint),
    )
    arrays = {f"current_{i:05d}": variable.numpy() for i, variable in enumerate(_variables(model))}
    arrays |= {f"best_{i:05d}": value for i, value in enumerate(progress.best_weights)}
    with atomic_write(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, about=np.frombuffer(about.model_dump_json().encode(), dtype=np.uint8), **arrays)


def recorded_run(path: Path) -> str:
    """Return the id of the MLflow run of an unfinished training, or an empty text if there is none.

    Raises:
        IntegrityError: The checkpoint is damaged.
    """
    if not path.exists():
        return ""
    with _opened(path) as arrays:
        return _about(arrays).run_id


def resume(path: Path, model: MultiHeadModel, fingerprint: Mapping[str, str]) -> Progress:
    """Load a checkpoint into a compiled model and return its progress, or a new progress if there is no checkpoint.

    Args:
        path: The checkpoint.
        model: The model, compiled with the settings of the stopped training.
        fingerprint: The fingerprint of the training.

    Raises:
        IntegrityError: The checkpoint is damaged or belongs to another training.
        MachineError: The checkpoint cannot be read.
    """
    if not path.exists():
        return Progress(fingerprint=fingerprint)
    if differing := differences(recorded_fingerprint(path), fingerprint):
        raise IntegrityError(f"{path} is of another training: {differing}. Delete it to train from the start")
    with _opened(path) as arrays:
        about = _about(arrays)
        for i, variable in enumerate(_variables(model)):
            variable.assign(arrays[f"current_{i:05d}"])
        best = [arrays[f"best_{i:05d}"] for i in range(len(model.variables))] if about.best_epoch else []
    return Progress(about.history, about.best_epoch, best, about.run_id, fingerprint)


def recorded_fingerprint(path: Path) -> dict[str, str]:
    """Return the fingerprint of a checkpoint's training.

    Raises:
        IntegrityError: The checkpoint is damaged, or is gone.
    """
    with _opened(path) as arrays:
        return _about(arrays).fingerprint


def differences(theirs: Mapping[str, str], fingerprint: Mapping[str, str]) -> str:
    """Return how a checkpoint's fingerprint differs from another one, or an empty text if they are equal."""
    names = [name for name in {**theirs, **fingerprint} if theirs.get(name) != fingerprint.get(name)]
    # Digests are too long for a message.
    found = [
        f"{name} is {theirs.get(name, 'not set')} there, {fingerprint.get(name, 'not set')} here"
        if max(len(theirs.get(name, "")), len(fingerprint.get(name, ""))) < 64
        else f"{name} differs"
        for name in names
    ]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return "; ".join(found[:3]) + more


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
    try:
        # NumPy would leave a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except MemoryError as error:  # a damaged header may announce any number of values
        raise IntegrityError(
            f"{path} announces more values than memory has room for: free memory, or delete it to train from the start"
        ) from error
    except Exception as error:  # NumPy and its zip archive raise a dozen types for damaged files
        raise_if_exhausted(path, error)
        reason = " ".join(str(error).split())[:200]
        raise IntegrityError(f"{path} is damaged ({reason}): delete it to train from the start") from error


def _about(arrays: Mapping[str, npt.NDArray[Any]]) -> _About:
    return _About.model_validate_json(arrays["about"].tobytes())


def training_lock(path: Path) -> AbstractContextManager[None]:
    """Hold the lock of a training, so that only one process writes its checkpoint.

    Raises:
        MachineError: Another process runs the same training.
    """
    return exclusive_lock(path.with_suffix(".lock"), "trains the same model")
