"""The interface of all datasets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from manyheads.datasets.documentation import Documentation
from manyheads.errors import ConfigError, DataError, MachineError

if TYPE_CHECKING:
    from manyheads.inputs import Input

Columns = Mapping[str, str | tuple[str, ...]]
"""The column, or the columns of a row of numbers, of an input or a head by name; ``data.columns``."""

REMEDY = "put the data there, or set data.path"


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


JUNK = Rejection("JUNK", "An operating system left this file; it is no sample.")


class Dataset(ABC):
    """A source of raw data: where it comes from, what its labels are, and how its inputs are read.

    Attributes:
        documentation: Texts for the model card and the data card.
    """

    def __init__(
        self,
        documentation: Documentation,
        generate: Callable[[Path], None] | None = None,
        remedy: str = REMEDY,
    ) -> None:
        """Keep what the dataset is and how to get it.

        Args:
            documentation: Texts for the cards.
            generate: Writes the data to a path; None if the user provides it.
            remedy: How the user gets missing data, for messages.
        """
        self.documentation = documentation
        self._generate, self._remedy = generate, remedy

    def provide(self, target: Path, original: Path) -> None:
        """Create or locate the raw data at ``target``, or link it to the main project's copy.

        DVC runs a queued experiment in a temporary copy of the project, which lacks the raw data.

        Args:
            target: The archive, folder or table, an absolute path inside the project.
            original: The same path in the main project; equal to ``target`` outside of a temporary copy.

        Raises:
            DataError: The data is missing in both projects, or empty; the message says how to get it.
            MachineError: The link cannot be created.
        """
        if target.exists():
            self._check_filled(target)
        elif target.is_symlink():
            raise DataError(f"{target} is a link to {target.readlink()}, which is missing: remove or repair the link")
        elif original != target and original.exists():
            self._check_filled(original)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(original)
            except OSError as error:
                raise MachineError(f"cannot link {target} to {original}: {error.strerror or error}") from error
        elif self._generate is not None:
            self._generate(target)
        else:
            raise DataError(f"{_shown(original)} is missing: {self._remedy}")

    def _check_filled(self, path: Path) -> None:
        filled = any(path.iterdir()) if path.is_dir() else path.stat().st_size > 0
        if not filled:
            raise DataError(f"{_shown(path)} is empty: {self._remedy}")

    def configured(self, inputs: Mapping[str, Input], columns: Columns) -> Dataset:
        """Return the dataset as it reads these inputs.

        Args:
            inputs: The inputs by name.
            columns: ``data.columns``.

        Raises:
            ConfigError: The dataset has no columns.
        """
        del inputs
        if columns:
            raise ConfigError(f"data.columns names {', '.join(columns)}, but this dataset is no table: remove it")
        return self

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


def _shown(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
