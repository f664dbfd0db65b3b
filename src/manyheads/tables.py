"""The tables that stages hand on, as CSV: their columns in one place, checked when they are read.

Text columns hold no missing values: an empty cell is the empty text. A head's labels stand in a column of its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from manyheads.errors import IntegrityError
from manyheads.files import write_aside

if TYPE_CHECKING:
    import pandera.pandas as pa

MAY_BE_EMPTY = {"note", "rule"}
REJECTED_COLUMNS = ["path", "stage", "code", "reason"]


def write_table(target: Path, frame: pd.DataFrame) -> None:
    """Write a table as UTF-8 CSV with Unix line ends, aside and renamed."""
    with write_aside(target) as aside:
        frame.to_csv(aside, index=False, lineterminator="\n", encoding="utf-8")


def write_rejected(target: Path, rows: Iterable[tuple[str, str, str, str]]) -> None:
    """Write a table of what was not accepted, sorted by path.

    A path that a spreadsheet would take for a formula gets an apostrophe in front.

    Args:
        target: The table's path.
        rows: Path, stage, code and reason of each.
    """
    frame = pd.DataFrame(sorted(rows), columns=REJECTED_COLUMNS, dtype=str)
    frame["path"] = frame["path"].str.replace(r"^([=+\-@\t\r])", r"'\1", regex=True)
    write_table(target, frame)


def read_manifest(path: Path, heads: Iterable[str]) -> pd.DataFrame:
    """Read the accepted names: ``path``, one label column a head (int64), ``note``."""
    return _read(path, {"path": str, **dict.fromkeys(heads, int), "note": str}, unique="path", made_by="parse")


def read_samples(path: Path, heads: Iterable[str]) -> pd.DataFrame:
    """Read the packed samples: ``row`` in the array, ``path``, labels, ``sha256``, ``group``, ``note``."""
    columns = {"row": int, "path": str, **dict.fromkeys(heads, int), "sha256": str, "group": str, "note": str}
    return _read(path, columns, unique="path", made_by="pack")


def read_splits(path: Path) -> pd.DataFrame:
    """Read the parts: ``path``, ``sha256``, ``group``, ``part``, and for excluded samples the ``rule``."""
    columns = dict.fromkeys(("path", "sha256", "group", "part", "rule"), str)
    return _read(path, columns, unique="path", made_by="split")


def _read(path: Path, columns: Mapping[str, type], unique: str, made_by: str) -> pd.DataFrame:
    import pandera.pandas as pa

    remedy = f"make it anew with `python -m manyheads {made_by}` or `dvc repro {made_by}`"
    try:
        dtypes = {name: str if kind is str else "int64" for name, kind in columns.items()}
        frame = pd.read_csv(path, dtype=dtypes, keep_default_na=False, encoding="utf-8")
        schema: pa.DataFrameSchema = pa.DataFrameSchema(
            {name: pa.Column(kind, _checks(name, kind), unique=name == unique) for name, kind in columns.items()},
            strict=True,
        )
        return schema.validate(frame)
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing: {remedy}") from None
    except (ValueError, pa.errors.SchemaError, pa.errors.SchemaErrors) as error:
        raise IntegrityError(f"{path} is damaged ({' '.join(str(error).split())[:200]}): {remedy}") from error


def _checks(name: str, kind: type) -> list[pa.Check]:
    import pandera.pandas as pa

    # A row that was cut off reads as empty cells.
    return [pa.Check.str_length(min_value=1)] if kind is str and name not in MAY_BE_EMPTY else []
