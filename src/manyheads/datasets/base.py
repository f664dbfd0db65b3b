"""The interface of all datasets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from manyheads.datasets.documentation import Documentation
from manyheads.errors import DataError


class Record(NamedTuple):
    """The labels of an accepted sample in the raw data.

    Attributes:
        labels: Labels by name; each head reads the label of its name. A missing label is None or an empty text.
        note: Remark on anything unusual, or an empty text.
    """

    labels: Mapping[str, Any]
    note: str = ""


class Rejection(NamedTuple):
    """The reason why a sample is rejected: a stable code, and a sentence for people."""

    code: str
    reason: str


class Dataset(ABC):
    """A source of raw data: where it comes from, what its labels are, and how its inputs are read.

    Attributes:
        documentation: Texts for the model card and the data card.
    """

    def __init__(self, documentation: Documentation) -> None:
        """Keep the documentation."""
        self.documentation = documentation

    def provide(self, target: Path, original: Path) -> None:
        """Create or locate the raw data at ``target``.

        Args:
            target: The archive, folder or table, an absolute path inside the project.
            original: The same path in the main project; equal to ``target`` outside of a temporary copy.

        Raises:
            DataError: The data is missing; the message says how to get it.
        """
        del original
        if not target.exists():
            raise DataError(f"{target} is missing: put the data there, or set data.path")

    @abstractmethod
    def records(self, source: Path) -> Iterator[tuple[str, Record | Rejection]]:
        """Yield the path of each sample in the raw data, sorted, with its labels or its rejection."""

    @abstractmethod
    def contents(self, source: Path, inputs: Sequence[str]) -> Iterator[tuple[str, Mapping[str, bytes] | OSError]]:
        """Yield the path of each sample with the bytes of each input, in any order.

        Paths of other files may be among them. An input that cannot be read is an ``OSError`` instead of the bytes.

        Args:
            source: The raw data.
            inputs: Names of the inputs.
        """
