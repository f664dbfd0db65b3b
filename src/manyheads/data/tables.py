"""The tables that stages hand on, as CSV: their columns in one place, checked when they are read.

Text columns hold no missing values: an empty cell is the empty text. A head says which columns hold its labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from manyheads.errors import IntegrityError
from manyheads.heads import Head
from manyheads.runtime.files import atomic_write

if TYPE_CHECKING:
    import pandera.pandas as pa

MAY_BE_EMPTY = {"note", "rule"}
LABELS = {"Int64", "Float64"}
REJECTED_COLUMNS = ["path", "stage", "code", "reason"]


def write_table(target: Path, frame: pd.DataFrame) -> None:
    """Write a table as UTF-8 CSV with Unix line ends, aside and renamed."""
    with atomic_write(target) as aside:
        frame.to_csv(aside, index=False, lineterminator="\n", encoding="utf-8")


def write_rejected(target: Path, rows: Iterable[tuple[str, str, str, str]]) -> None:
    """Write a table of what was not accepted, sorted by path.

    A path that a spreadsheet would take for a formula gets an apostrophe in front.

    Args:
        target: The table's path.
        rows: Path, stage, code and reason of each.
    """
    frame = pd.DataFrame(sorted(rows), columns=REJECTED_COLUMNS, dtype=str)
    frame["path"] = without_formulas(frame["path"])
    write_table(target, frame)


def without_formulas(texts: pd.Series[str]) -> pd.Series[str]:
    """Return texts with an apostrophe before each that a spreadsheet would take for a formula."""
    return texts.str.replace(r"^([=+\-@\t\r])", r"'\1", regex=True)


def read_manifest(path: Path, heads: Mapping[str, Head]) -> pd.DataFrame:
    """Read the accepted samples: ``path``, each head's columns of labels, ``note``."""
    columns = {"path": "str", **_label_columns(heads), "note": "str"}
    return _read(path, columns, unique="path", made_by="parse")


def read_samples(path: Path, heads: Mapping[str, Head]) -> pd.DataFrame:
    """Read the packed samples: ``row`` in the array, ``path``, labels, ``sha256``, ``group``, ``note``."""
    columns = {"row": "int64", "path": "str", **_label_columns(heads), "sha256": "str", "group": "str", "note": "str"}
    return _read(path, columns, unique="path", made_by="pack")


def _label_columns(heads: Mapping[str, Head]) -> dict[str, str]:
    return {column: head.label_dtype for name, head in heads.items() for column in head.label_columns}


def read_splits(path: Path) -> pd.DataFrame:
    """Read the subsets: ``path``, ``sha256``, ``group``, ``subset``, and for excluded samples the ``rule``."""
    columns = dict.fromkeys(("path", "sha256", "group", "subset", "rule"), "str")
    return _read(path, columns, unique="path", made_by="split")


def read_predictions(path: Path, heads: Mapping[str, Head]) -> pd.DataFrame:
    """Read what evaluate wrote of each test sample; see ``Head.recorded``.

    Names of classes are texts, also where they are such as ``1``, ``True`` or ``None``.

    Raises:
        IntegrityError: The table is missing or damaged.
    """
    classes = [column for name, head in heads.items() if head.class_names for column in (name, f"{name}_label")]
    texts = dict.fromkeys(["path", "group", *classes], "str")
    try:
        return pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""], encoding="utf-8")
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing: run `dvc repro evaluate`") from None
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged ({error}): run `dvc repro evaluate`") from error


def _read(path: Path, columns: Mapping[str, str], unique: str, made_by: str) -> pd.DataFrame:
    import pandera.pandas as pa

    remedy = f"make it anew with `python -m manyheads {made_by}` or `dvc repro {made_by}`"
    try:
        # An empty cell is a missing label, and the empty text elsewhere.
        missing = {name: [""] for name, kind in columns.items() if kind in LABELS}
        frame = pd.read_csv(path, dtype=dict(columns), keep_default_na=False, na_values=missing, encoding="utf-8")
        schema: pa.DataFrameSchema = pa.DataFrameSchema(
            {
                name: pa.Column(kind, _checks(name, kind), unique=name == unique, nullable=kind in LABELS)
                for name, kind in columns.items()
            },
            strict=True,
        )
        valid = schema.validate(frame)
        whole = [name for name, kind in columns.items() if kind in LABELS and valid[name].notna().all()]
        return valid.astype({name: columns[name].lower() for name in whole})
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing: {remedy}") from None
    except (ValueError, pa.errors.SchemaError, pa.errors.SchemaErrors) as error:
        raise IntegrityError(f"{path} is damaged ({' '.join(str(error).split())[:200]}): {remedy}") from error


def _checks(name: str, kind: str) -> list[pa.Check]:
    import pandera.pandas as pa

    # A row that was cut off reads as empty cells.
    return [pa.Check.str_length(min_value=1)] if kind == "str" and name not in MAY_BE_EMPTY else []
