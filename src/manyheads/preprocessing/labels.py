"""Conversion of the labels in raw data to label columns by the heads."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from manyheads.datasets import Record, Rejection
from manyheads.errors import ConfigError, did_you_mean
from manyheads.heads import Head
from manyheads.preprocessing.rejects import Reject

MISSING_WORDS = ("na", "n/a", "nan", "null", "none", "?")
"""What programs write for a missing value. A head that has such a class reads the class."""


class Labelled(NamedTuple):
    """The accepted samples as columns of the manifest, and the rejected samples."""

    manifest: dict[str, list[Any]]
    rejects: list[Reject]


def read_labels(records: Iterable[tuple[str, Record | Rejection]], heads: Mapping[str, Head]) -> Labelled:
    """Divide samples into accepted and rejected ones.

    A sample may lack labels of some heads. A sample without any label is rejected.

    Args:
        records: POSIX paths with their labels or rejections, sorted by path. Of several paths that differ only in case
            or in Unicode form, the first is accepted.
        heads: The heads by name; their label spaces decide which labels are accepted.

    Returns:
        Manifest columns (``path``, the label columns of each head, ``note``) and rejected samples, in their order.

    Raises:
        ConfigError: The raw data has no label for a head.
    """
    columns = [column for name, head in heads.items() for column in head.label_columns]
    manifest: dict[str, list[Any]] = {column: [] for column in ("path", *columns, "note")}
    rejects: list[Reject] = []
    folded: set[str] = set()
    for path, record in records:
        cells = record if isinstance(record, Rejection) else _unwritable(path) or _cells(record, heads)
        if isinstance(cells, Rejection):
            rejects.append(Reject(path, *cells))
            continue
        key = unicodedata.normalize("NFC", path).casefold()
        if key in folded:
            reason = "Another path differs only in case or in Unicode form; some systems do not distinguish the two."
            rejects.append(Reject(path, "NAME_CLASH", reason))
            continue
        folded.add(key)
        row = [path, *cells, record.note if isinstance(record, Record) else ""]
        for column, cell in zip(manifest.values(), row, strict=True):
            column.append(cell)
    return Labelled(manifest, rejects)


def _unwritable(path: str) -> Rejection | None:
    """Return a rejection for a path that a table cannot hold."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return Rejection("NAME_UNSAFE", "The path has bytes that are not UTF-8; rename it.")
    return Rejection("NAME_UNSAFE", "The path has a zero byte; rename it.") if "\0" in path else None


def _cells(record: Record, heads: Mapping[str, Head]) -> list[Any] | Rejection:
    if missing := sorted(heads.keys() - record.labels.keys()):
        known = sorted(record.labels)
        raise ConfigError(
            f"data.heads names {', '.join(missing)}; the data has only labels for {', '.join(known)}"
            f"{did_you_mean(missing[0], known)} (a table's column of another name: data.columns.{missing[0]})"
        )
    cells: list[Any] = []
    refusals = []
    for name, head in heads.items():
        try:
            cells += _read(head, record.labels[name])
        except ValueError as refusal:
            refusals.append(f"The {name} {refusal}.")
    if refusals:
        return Rejection("LABEL_RANGE", " ".join(refusals))
    if heads and all(cell is None for cell in cells):
        return Rejection("LABEL_MISSING", "It has no label for any head.")
    return cells


def _read(head: Head, label: Any) -> tuple[Any, ...]:
    try:
        return head.read(label)
    except ValueError:
        if isinstance(label, str) and label.strip().casefold() in MISSING_WORDS:
            return head.read(None)
        raise
