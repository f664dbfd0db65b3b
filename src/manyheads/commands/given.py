"""The samples that a user gives on the command line: files, folders, archives and tables, looked at before any work."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from manyheads.datasets import archives, files_among, table_contents
from manyheads.datasets.base import Columns
from manyheads.errors import DataError
from manyheads.inputs import Input

logger = logging.getLogger(__name__)

Member = tuple[str, Mapping[str, bytes] | OSError]

TABLES = (".csv", ".parquet")


class Given(NamedTuple):
    """The samples in the order of the command line.

    Attributes:
        members: Path of each sample, and the bytes of its inputs by name or an OSError if they could not be read.
        total: Number of samples, or None if it is unknown.
    """

    members: Iterator[Member]
    total: int | None


def given(paths: Sequence[Path], inputs: Mapping[str, Input], columns: Columns) -> Given:
    """Look at each path as far as its first sample.

    With several paths, a sample in a folder or an archive is named after the path as it was typed. With one, it has the
    name that it has in data for training.

    Args:
        paths: What the user typed.
        inputs: The model's inputs by name.
        columns: The columns of a table for inputs that have other names.

    Raises:
        DataError: A path does not exist, is of a kind that the model does not take, or holds no sample.
        IntegrityError: An archive or a table is damaged.
    """
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} does not exist: give {_wanted(inputs)}")
    sources = [_source(path, inputs, columns, as_typed=len(paths) > 1) for path in paths]
    members = [_looked_at(each, path, inputs) for path, (each, _) in zip(paths, sources, strict=True)]
    totals = [total for _, total in sources]
    return Given(itertools.chain.from_iterable(members), None if None in totals else sum(filter(None, totals)))


def _source(
    path: Path, inputs: Mapping[str, Input], columns: Columns, as_typed: bool
) -> tuple[Iterator[Member], int | None]:
    packed = path.is_dir() or path.name.lower().endswith(archives.SUFFIXES)
    if path.suffix.lower() in TABLES and not packed:
        return table_contents(path, list(inputs), columns, files_among(inputs)), None
    if len(inputs) > 1:
        if packed:
            return table_contents(path, list(inputs), columns, files_among(inputs)), None
        raise DataError(f"{path} is no table: the model takes {_wanted(inputs)}")
    ((name, kind),) = inputs.items()
    if packed:
        return _packed(path, name, kind, as_typed), _count(path, kind)
    if kind.FILE_SUFFIXES and path.suffix.lower() not in kind.FILE_SUFFIXES:
        raise DataError(f"{path} is of a kind that is not read: give {_wanted(inputs)}")
    return _file(path, name), 1


def _file(path: Path, name: str) -> Iterator[Member]:
    try:
        yield str(path), {name: path.read_bytes()}
    except OSError as error:
        yield str(path), error


def _packed(path: Path, name: str, kind: Input, as_typed: bool) -> Iterator[Member]:
    """Yield the samples of a folder or an archive; files with the endings of other kinds are counted in the log."""
    others: Counter[str] = Counter()
    for member, data in archives.selected(path, lambda each: _is_sample(each, kind)):
        if _is_sample(member, kind):
            inner = member.partition("/")[2] if path.is_dir() else member
            shown = f"{path}/{inner}" if as_typed else member
            yield shown, data if isinstance(data, OSError) else {name: data}
        elif not archives.is_junk(member):
            others[PurePosixPath(member).suffix.lower() or "no ending"] += 1
    if others:
        kinds = ", ".join(f"{count} of {ending}" for ending, count in others.most_common(5))
        logger.info("%s: %d files of other kinds are not read (%s)", path, others.total(), kinds)


def _is_sample(path: str, kind: Input) -> bool:
    fits = not kind.FILE_SUFFIXES or path.lower().endswith(kind.FILE_SUFFIXES)
    return fits and not archives.is_junk(path)


def _count(path: Path, kind: Input) -> int | None:
    """Return the number of samples, or None for a tar, which would have to be read from its start to its end."""
    if not path.is_dir() and path.suffix.lower() != ".zip":
        return None
    return sum(_is_sample(member, kind) for member in archives.names(path))


def _looked_at(members: Iterator[Member], path: Path, inputs: Mapping[str, Input]) -> Iterator[Member]:
    """Return the samples after the first one was reached, so that what is wrong with a path is known at once."""
    first = next(members, None)
    if first is None:
        raise DataError(f"{path} holds no sample: give {_wanted(inputs)}")
    return itertools.chain([first], members)


def _wanted(inputs: Mapping[str, Input]) -> str:
    names = ", ".join(inputs)
    if len(inputs) > 1:
        return f"a .csv or a .parquet with the columns {names}"
    (kind,) = inputs.values()
    files = f"a {', '.join(kind.FILE_SUFFIXES)} file" if kind.FILE_SUFFIXES else "a file"
    return f"{files}, {archives.SUPPORTED} of them, or a .csv or a .parquet with the column {names}"
