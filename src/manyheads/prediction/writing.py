"""Files of predictions: a CSV or a Parquet file, written row group by row group in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pandas as pd

from manyheads.data.tables import to_csv
from manyheads.prediction.answers import AnsweringModel
from manyheads.prediction.tables import PLACE
from manyheads.runtime.files import atomic_write

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_OF_GROUP = 12_800
"""Number of rows from which a row group of a Parquet file is written."""


class Counts:
    """Counts of the rows of predictions: a row is predicted, or has the code of what could not be read.

    Attributes:
        rows: Number of rows.
        noted: Number of rows with a note.
        unreadable: Number of rows by the code of their error.
        last_error: The last error, or an empty text.
    """

    def __init__(self) -> None:
        self.rows = self.noted = 0
        self.last_error = ""
        self.unreadable: Counter[str] = Counter()

    @property
    def predicted(self) -> int:
        """Number of rows with a prediction."""
        return self.rows - self.unreadable.total()

    def add(self, table: pd.DataFrame) -> None:
        """Count the rows of a table with the columns ``note`` and ``error``."""
        self.rows += len(table)
        self.noted += int((table["note"] != "").sum())
        errors = [error for error in table["error"] if error]
        self.unreadable.update(error.partition(":")[0] for error in errors)
        self.last_error = errors[-1] if errors else self.last_error

    def counted(self, tables: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Yield tables and count their rows."""
        for table in tables:
            self.add(table)
            yield table


def write_csv(file: IO[str], tables: Iterable[pd.DataFrame]) -> None:
    """Write tables with the same columns below one header, without formulas."""
    for number, table in enumerate(tables):
        to_csv(table, file, header=number == 0)


def write_parquet(target: Path, tables: Iterable[pd.DataFrame], schema: pa.Schema) -> None:
    """Write tables as one Parquet file; the write is atomic.

    The values are those of the CSV. A cell that is empty there is null, except in ``path``, ``note`` and ``error``.

    Args:
        target: The file.
        tables: Tables of ``table_of``.
        schema: From ``schema_of``.
    """
    import pyarrow.parquet as pq

    with atomic_write(target) as unfinished, pq.ParquetWriter(unfinished, schema) as writer:
        for group in _grouped(tables):
            writer.write_table(_as_arrow(group, schema))


def _grouped(tables: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    waiting: list[pd.DataFrame] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= ROWS_OF_GROUP:
            yield pd.concat(waiting, ignore_index=True)
            waiting = []
    if waiting:
        yield pd.concat(waiting, ignore_index=True)


def _as_arrow(table: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    def array(field: pa.Field) -> pa.Array:
        values = table[field.name].tolist()
        if field.name not in ("path", "note", "error"):
            values = [None if value == "" or value != value else value for value in values]  # NaN differs from itself
        if pa.types.is_string(field.type):
            values = [None if value is None else str(value) for value in values]
        return pa.array(values, field.type)

    return pa.Table.from_arrays([array(field) for field in schema], schema=schema)


def schema_of(model: AnsweringModel, find_faces: bool) -> pa.Schema:
    """Return the columns of ``table_of`` and their types, which the model tells and no value changes.

    Args:
        model: The model.
        find_faces: Whether rows are faces.
    """
    import pyarrow as pa

    types = {"f": pa.float64(), "i": pa.int64(), "u": pa.int64(), "b": pa.bool_()}
    place = dict.fromkeys(PLACE, pa.int64()) if find_faces else {}
    heads = {name: types.get(dtype.kind, pa.string()) for name, dtype in model.dtypes.items()}
    text = pa.string()
    return pa.schema([*({"path": text} | place | heads | {"note": text, "error": text}).items()])
