"""The samples that a user gives on the command line: files, folders, archives and tables, looked at before any work."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from manyheads.datasets import archives, files_among, table, table_contents
from manyheads.datasets.base import Columns
from manyheads.errors import DataError
from manyheads.inputs import Input

logger = logging.getLogger(__name__)

Member = tuple[str, Mapping[str, bytes] | OSError]


class Given(NamedTuple):
    """The samples in the order of the command line.

    Attributes:
        members: Path of each sample, and the bytes of its inputs by name or an OSError if they could not be read.
        total: Number of samples, or None if it is unknown.
    """

    members: Iterator[Member]
    total: int | None


class Looked(NamedTuple):
    """What was found at the paths of the command line.

    Attributes:
        paths: What the user typed.
        inputs: The model's inputs by name.
        columns: The columns of a table for inputs that have other names.
        total: Number of samples, or None if it is unknown.
        digest: SHA-256 of the names of a folder's samples, and of size and time of change of each file that was given.
    """

    paths: Sequence[Path]
    inputs: Mapping[str, Input]
    columns: Columns
    total: int | None
    digest: str

    def samples(self, skip: int = 0) -> Given:
        """Return the samples after the first ``skip``, whose files are not read, except to get past them in a tar."""
        left = itertools.count(-skip)

        def skipped() -> bool:
            return next(left) < 0

        as_typed = len(self.paths) > 1
        each = (_samples(path, self.inputs, self.columns, as_typed, skipped) for path in self.paths)
        total = None if self.total is None else max(0, self.total - skip)
        return Given(itertools.chain.from_iterable(each), total)


def look(paths: Sequence[Path], inputs: Mapping[str, Input], columns: Columns) -> Looked:
    """Look at each path: a tar as far as its first sample, another source as a whole, but not into the samples.

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
    digest = hashlib.sha256()
    totals = []
    for path in paths:
        totals.append(_count(path, inputs, columns, digest.update))
        if totals[-1] == 0:
            raise DataError(f"{path} holds no sample: give {_wanted(inputs)}")
        if not path.is_dir():
            status = path.stat()
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    total = None if None in totals else sum(filter(None, totals))
    return Looked(paths, inputs, columns, total, digest.hexdigest())


def _count(path: Path, inputs: Mapping[str, Input], columns: Columns, update: Callable[[bytes], object]) -> int | None:
    """Return the number of samples, or None if it is unknown but not 0; give the names in a folder to ``update``."""
    packed = _is_packed(path)
    if _is_table(path, inputs):
        first = next(_samples(path, inputs, columns), None)  # tells whether the table has the columns
        return 0 if first is None else None if packed else table.count_rows(path)
    if not packed:
        return 1
    ((_, kind),) = inputs.items()
    if not path.is_dir() and path.suffix.lower() != ".zip":
        return 0 if next(_samples(path, inputs, columns), None) is None else None
    total = 0
    inside = _inside(path)
    for member, _ in archives.selected(path, lambda _: False, strict=False):
        if _is_sample(inside(member), kind):
            total += 1
            update(os.fsencode(member) + b"\0")
    return total


def _samples(
    path: Path,
    inputs: Mapping[str, Input],
    columns: Columns,
    as_typed: bool = False,
    skipped: Callable[[], bool] = lambda: False,
) -> Iterator[Member]:
    """Yield the samples at a path, except those for which ``skipped`` is true; it is called once for each, in order."""
    if _is_table(path, inputs):
        yield from table_contents(path, list(inputs), columns, files_among(inputs), skipped)
        return
    ((name, kind),) = inputs.items()
    if _is_packed(path):
        yield from _packed(path, name, kind, as_typed, skipped)
    elif not skipped():
        data = archives.read_file(path)
        yield str(path), data if isinstance(data, OSError) else {name: data}


def _is_packed(path: Path) -> bool:
    return path.is_dir() or path.name.lower().endswith(archives.SUFFIXES)


def _is_table(path: Path, inputs: Mapping[str, Input]) -> bool:
    """Return whether a path is a table, or holds one.

    Raises:
        DataError: It is neither a table nor a sample.
    """
    packed = _is_packed(path)
    if not packed and path.suffix.lower() in table.SUFFIXES:
        return True
    if len(inputs) > 1 and not packed:
        raise DataError(f"{path} is no table: the model takes {_wanted(inputs)}")
    suffixes = next(iter(inputs.values())).FILE_SUFFIXES
    if not packed and suffixes and path.suffix.lower() not in suffixes:
        raise DataError(f"{path} is of a kind that is not read: give {_wanted(inputs)}")
    return len(inputs) > 1


def _packed(path: Path, name: str, kind: Input, as_typed: bool, skipped: Callable[[], bool]) -> Iterator[Member]:
    """Yield the samples of a folder or an archive; hidden files and files of other kinds are counted in the log."""
    others: Counter[str] = Counter()
    hidden = 0
    inside = _inside(path)
    read = False

    def is_read(member: str) -> bool:
        nonlocal read
        read = _is_sample(inside(member), kind) and not skipped()
        return read

    for member, data in archives.selected(path, is_read, strict=False):
        inner = inside(member)
        if read:
            shown = f"{path}/{inner}" if as_typed else member
            yield shown, data if isinstance(data, OSError) else {name: data}
        elif _is_hidden(inner):
            hidden += 1
        elif not _is_sample(inner, kind):
            others[PurePosixPath(member).suffix.lower() or "no ending"] += 1
    if hidden:
        logger.info("%s: %d hidden files are not read", path, hidden)
    if others:
        kinds = ", ".join(f"{count} of {ending}" for ending, count in others.most_common(5))
        logger.info("%s: %d files of other kinds are not read (%s)", path, others.total(), kinds)


def _inside(source: Path) -> Callable[[str], str]:
    """Return a function from the path of a member to its path without the name of the folder that was given."""
    return (lambda member: member.partition("/")[2]) if source.is_dir() else (lambda member: member)


def _is_sample(inner: str, kind: Input) -> bool:
    fits = not kind.FILE_SUFFIXES or inner.lower().endswith(kind.FILE_SUFFIXES)
    return fits and not _is_hidden(inner)


def _is_hidden(inner: str) -> bool:
    """Return whether a file or a folder above it is hidden, or left by an operating system."""
    return "/." in f"/{inner}" or archives.is_junk(inner)


def _wanted(inputs: Mapping[str, Input]) -> str:
    names = ", ".join(inputs)
    if len(inputs) > 1:
        return f"a .csv or a .parquet with the columns {names}"
    (kind,) = inputs.values()
    files = f"a {', '.join(kind.FILE_SUFFIXES)} file" if kind.FILE_SUFFIXES else "a file"
    return f"{files}, {archives.SUPPORTED} of them, or a .csv or a .parquet with the column {names}"
