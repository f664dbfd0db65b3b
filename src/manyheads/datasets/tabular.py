"""Datasets in a table: a CSV or Parquet file with a row for each sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from manyheads.datasets.base import Dataset, Record, Rejection
from manyheads.datasets.documentation import Documentation
from manyheads.errors import DataError, IntegrityError

if TYPE_CHECKING:
    import pandas as pd


class Table(Dataset):
    """A CSV or Parquet file with a column for each input and each label, a sample a row.

    An input's cell is its text; several numbers are separated by blanks. An empty cell of a label is a label that is
    not known. Paths are the row's number, counted from 1, such as ``posts.csv/000017``.
    """

    def __init__(self, documentation: Documentation, generate: Callable[[], pd.DataFrame] | None = None) -> None:
        """Keep the documentation and the generator.

        Args:
            documentation: What the cards say.
            generate: Returns the table where there is none; without it, the user provides one.
        """
        super().__init__(documentation)
        self._generate = generate

    def provide(self, target: Path, original: Path) -> None:
        """Generate the table unless one is there; see ``Dataset.provide``."""
        if self._generate is None or target.exists():
            super().provide(target, original)
            return
        from manyheads.runtime.files import atomic_write

        table = self._generate()
        with atomic_write(target) as unfinished:
            if target.suffix == ".parquet":
                table.to_parquet(unfinished, index=False)
            else:
                table.to_csv(unfinished, index=False, lineterminator="\n", encoding="utf-8")

    def records(self, source: Path) -> Iterator[tuple[str, Record | Rejection]]:
        table = _read_table(source)
        for path, row in zip(_row_names(source, len(table)), table.to_dict("records"), strict=True):
            yield path, Record({str(name): value for name, value in row.items()})

    def contents(self, source: Path, inputs: Sequence[str]) -> Iterator[tuple[str, Mapping[str, bytes] | OSError]]:
        return table_contents(source, inputs)


def table_contents(source: Path, inputs: Sequence[str]) -> Iterator[tuple[str, Mapping[str, bytes]]]:
    """Yield a table's rows with the bytes of each input's cell; see ``Table``.

    Raises:
        DataError: It is missing, or has no column for an input.
        IntegrityError: It is no table.
    """
    table = _read_table(source)
    if missing := set(inputs) - set(table):
        found = ", ".join(map(str, table))
        raise DataError(f"{source} has no column {', '.join(sorted(missing))} for an input; it has {found}")
    columns = [table[name].tolist() for name in inputs]
    for path, cells in zip(_row_names(source, len(table)), zip(*columns, strict=True), strict=True):
        yield path, {name: cell.encode("utf-8", "surrogateescape") for name, cell in zip(inputs, cells, strict=True)}


def _row_names(source: Path, n: int) -> list[str]:
    return [f"{source.name}/{row:06d}" for row in range(1, n + 1)]


def _read_table(source: Path) -> pd.DataFrame:
    """Read a table with all cells as text; bytes that are no UTF-8 survive as lone surrogates."""
    import pandas as pd

    try:
        if source.suffix == ".parquet":
            frame = pd.read_parquet(source)
            return frame.astype(object).where(frame.notna(), "").astype(str)
        return pd.read_csv(
            source, dtype=object, keep_default_na=False, encoding="utf-8", encoding_errors="surrogateescape"
        )
    except FileNotFoundError:
        raise DataError(f"{source} is missing: put the table there, or set data.path") from None
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{source} cannot be read as a table: {' '.join(str(error).split())[:200]}") from error
