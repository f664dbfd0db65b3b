"""Datasets in a CSV or Parquet file with one row per sample."""

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
    """A CSV or Parquet file with one row per sample and a column for each input and each label.

    The cell of an input is its text; several numbers are separated by blanks. An empty cell of a label is a missing
    label. The path of a sample is its row number, counted from 1, such as ``posts.csv/000017``.
    """

    def __init__(self, documentation: Documentation, generate: Callable[[], pd.DataFrame] | None = None) -> None:
        """Keep the documentation and the generator.

        Args:
            documentation: Texts for the cards.
            generate: Returns the table if it is missing; None if the user provides it.
        """
        super().__init__(documentation)
        self._generate = generate

    def provide(self, target: Path, original: Path) -> None:
        """Generate the table unless it exists; see ``Dataset.provide``."""
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
    """Yield the path of each row with the bytes of each input; see ``Table``.

    Args:
        source: The CSV or Parquet file.
        inputs: Names of the inputs.

    Raises:
        DataError: The table is missing, or has no column for an input.
        IntegrityError: The file cannot be read as a table.
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
    """Return a table with all cells as text; bytes that are not UTF-8 become lone surrogates."""
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
