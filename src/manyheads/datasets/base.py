"""What every dataset offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from manyheads.datasets.documentation import Documentation
from manyheads.errors import DataError


class Record(NamedTuple):
    """What the raw data says of an accepted sample.

    Attributes:
        labels: By name; a head reads its own. A label that is missing is None or an empty text.
        note: What was unusual about it.
    """

    labels: Mapping[str, Any]
    note: str = ""


class Rejection(NamedTuple):
    """Why a sample was not accepted: a stable code, and a sentence for people."""

    code: str
    reason: str


class Dataset(ABC):
    """Where raw data comes from, what its labels are, and how its inputs are read.

    Attributes:
        documentation: What the cards say of it.
    """

    def __init__(self, documentation: Documentation) -> None:
        """Keep what the cards say."""
        self.documentation = documentation

    def provide(self, target: Path, original: Path) -> None:
        """Create or locate the raw data at ``target``, or say how to get it.

        Args:
            target: The archive, folder or table, an absolute path inside the project.
            original: The same in the project that was copied; equal to ``target`` outside of a copy.

        Raises:
            DataError: The data is not there.
        """
        del original
        if not target.exists():
            raise DataError(f"{target} is missing: put the data there, or set data.path")

    @abstractmethod
    def records(self, source: Path) -> Iterator[tuple[str, Record | Rejection]]:
        """Yield every sample's path in the raw data, sorted, with its labels or why it is not accepted."""

    @abstractmethod
    def contents(self, source: Path, inputs: Sequence[str]) -> Iterator[tuple[str, Mapping[str, bytes] | OSError]]:
        """Yield every sample's path with the bytes of each input, in any order; others may be among them.

        Args:
            source: The raw data.
            inputs: Names of the inputs.
        """
