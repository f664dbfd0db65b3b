"""CSV tables between stages: definitions of their columns, and functions that read, check and write them.

A text column has no missing values: an empty cell is an empty text. Each head defines the columns of its labels.

People open these files in spreadsheets, which take a text such as ``=1+1`` for a formula. In the files, such a text has
an apostrophe in front, and it is taken away when the file is read.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import pandas as pd

from manyheads.errors import IntegrityError
from manyheads.heads import Head
from manyheads.runtime.files import atomic_write

if TYPE_CHECKING:
    import pandera.pandas as pa

MAY_BE_EMPTY = {"note", "rule"}
LABELS = {"Int64", "Float64"}
REJECTED_COLUMNS = ["path", "stage", "code", "reason"]
_FORMULA = r"(?![+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$)[=+\-@\t\r]"  # a number is none
FORMULA = re.compile("'*" + _FORMULA, re.IGNORECASE)
ESCAPED_FORMULA = re.compile("'+" + _FORMULA, re.IGNORECASE)


def write_table(target: Path, frame: pd.DataFrame) -> None:
    """Write a table as UTF-8 CSV with Unix line ends and without formulas; the write is atomic."""
    with atomic_write(target) as unfinished:
        to_csv(frame, unfinished)


def to_csv(frame: pd.DataFrame, file: Path | IO[str], header: bool = True) -> None:
    """Write a table as ``write_table`` does, to a path or at the end of an open file."""
    plain = without_formulas(frame)
    # Only what holds a line end of the file would be quoted, and readers take a carriage return for a line end, too.
    returns = any(isinstance(each, str) and "\r" in each for name in _texts(plain) for each in plain[name])
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    plain.to_csv(file, index=False, header=header, lineterminator="\n", encoding="utf-8", quoting=quoting)


def write_rejected(target: Path, rows: Iterable[tuple[str, str, str, str]]) -> None:
    """Write a table of rejected samples, sorted by path.

    Args:
        target: Path of the table.
        rows: Path, stage, code and reason of each sample.
    """
    write_table(target, pd.DataFrame(sorted(rows), columns=REJECTED_COLUMNS, dtype=str))


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with an apostrophe before each text that a spreadsheet would take for a formula."""
    return _in_texts(frame, lambda text: f"'{text}" if FORMULA.match(text) else text)


def with_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table that ``without_formulas`` was given."""
    return _in_texts(frame, lambda text: text[1:] if ESCAPED_FORMULA.match(text) else text)


def _in_texts(frame: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    changed = frame.copy(deep=False)
    for name in _texts(frame):
        values = [change(each) if isinstance(each, str) else each for each in frame[name]]
        changed[name] = pd.Series(values, frame.index, frame[name].dtype)
    return changed


def _texts(frame: pd.DataFrame) -> pd.Index[Any]:
    """Return the names of the columns that may hold texts."""
    return frame.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]]


def read_table(path: Path, stage: str, texts: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table that a stage wrote for people.

    Args:
        path: The table.
        stage: The stage.
        texts: Columns of texts, even such as ``1`` or ``None``.

    Raises:
        IntegrityError: The table is missing or damaged.
    """
    try:
        frame = pd.read_csv(
            path, dtype=dict.fromkeys(texts, "str"), keep_default_na=False, na_values=[""], encoding="utf-8"
        )
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing: run `dvc repro {stage}`") from None
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged ({error}): run `dvc repro {stage}`") from error
    return with_formulas(frame)


def read_manifest(path: Path, heads: Mapping[str, Head]) -> pd.DataFrame:
    """Read the accepted samples: ``path``, the label columns of each head, ``note``.

    Raises:
        IntegrityError: The table is missing or damaged.
    """
    columns = {"path": "str", **_label_columns(heads), "note": "str"}
    return _read(path, columns, unique="path", made_by="parse")


def read_samples(path: Path, heads: Mapping[str, Head]) -> pd.DataFrame:
    """Read the packed samples: ``row`` in the array, ``path``, labels, ``sha256``, ``group``, ``note``.

    Raises:
        IntegrityError: The table is missing or damaged.
    """
    columns = {"row": "int64", "path": "str", **_label_columns(heads), "sha256": "str", "group": "str", "note": "str"}
    return _read(path, columns, unique="path", made_by="pack")


def _label_columns(heads: Mapping[str, Head]) -> dict[str, str]:
    return {column: head.label_dtype for name, head in heads.items() for column in head.label_columns}


def read_splits(path: Path) -> pd.DataFrame:
    """Read the split: ``path``, ``sha256``, ``group``, ``subset``, and the ``rule`` that excluded a sample.

    Raises:
        IntegrityError: The table is missing or damaged.
    """
    columns = dict.fromkeys(("path", "sha256", "group", "subset", "rule"), "str")
    return _read(path, columns, unique="path", made_by="split")


def read_properties(path: Path) -> pd.DataFrame:
    """Read the properties of packed samples, float64, indexed by ``row``; the columns are ``<input>/<property>``.

    Raises:
        IntegrityError: The table is missing or damaged.
    """
    remedy = "make it again with `python -m manyheads pack` or `dvc repro pack`"
    try:
        return pd.read_csv(path, index_col="row", encoding="utf-8").astype("float64")
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing: {remedy}") from None
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged ({' '.join(str(error).split())[:200]}): {remedy}") from error


def read_predictions(path: Path, heads: Mapping[str, Head]) -> pd.DataFrame:
    """Read the predictions of the test samples that evaluate wrote; see ``Head.recorded``.

    Names of classes are texts, even names such as ``1``, ``True`` or ``None``.

    Raises:
        IntegrityError: The table is missing or damaged.
    """
    classes = [column for name, head in heads.items() if head.class_names for column in (name, f"{name}_label")]
    return read_table(path, "evaluate", ["path", "group", *classes])


def _read(path: Path, columns: Mapping[str, str], unique: str, made_by: str) -> pd.DataFrame:
    import pandera.pandas as pa

    remedy = f"make it again with `python -m manyheads {made_by}` or `dvc repro {made_by}`"
    try:
        # An empty cell is a missing label in a label column, and an empty text elsewhere.
        missing = {name: [""] for name, kind in columns.items() if kind in LABELS}
        frame = pd.read_csv(path, dtype=dict(columns), keep_default_na=False, na_values=missing, encoding="utf-8")
        schema: pa.DataFrameSchema = pa.DataFrameSchema(
            {
                name: pa.Column(kind, _checks(name, kind), unique=name == unique, nullable=kind in LABELS)
                for name, kind in columns.items()
            },
            strict=True,
        )
        valid = with_formulas(schema.validate(frame))
        whole = [name for name, kind in columns.items() if kind in LABELS and valid[name].notna().all()]
        return valid.astype({name: columns[name].lower() for name in whole})
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing: {remedy}") from None
    except (ValueError, pa.errors.SchemaError, pa.errors.SchemaErrors) as error:
        raise IntegrityError(f"{path} is damaged ({' '.join(str(error).split())[:200]}): {remedy}") from error


def _checks(name: str, kind: str) -> list[pa.Check]:
    import pandera.pandas as pa

    # The cells of a truncated row read as empty texts.
    return [pa.Check.str_length(min_value=1)] if kind == "str" and name not in MAY_BE_EMPTY else []
