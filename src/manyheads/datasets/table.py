"""Tables: a CSV or Parquet file with one row per sample, or a folder with such a table and the files that it names."""

from __future__ import annotations

import copy
import csv
import errno
import functools
import io
import itertools
import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, Self

from manyheads.datasets import archives
from manyheads.datasets.base import Columns, Dataset, Record, Rejection
from manyheads.datasets.documentation import Documentation, undocumented
from manyheads.errors import DataError, IntegrityError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from manyheads.inputs import Input

logger = logging.getLogger(__name__)

SUFFIXES = (".csv", ".parquet")
DELIMITERS = ",;\t|"
_HEADER_BYTES = 2**16
ROWS_AT_ONCE = 10_000
"""Number of rows of a table that are in memory if it is read in pieces."""


SETTING = "set data.columns.{}"
"""What to do about a missing column in the data of a training."""


class Table(Dataset):
    """A table with one row per sample and a column for each input and each label.

    The table is a CSV or Parquet file, or lies in a folder or an archive together with the files that it names. The
    cell of an input is its text, or the path of its file relative to the table if the input reads files
    (``Input.FILE_SUFFIXES``). Several numbers are in one cell, separated by blanks, or in several columns. An empty
    cell of a label is a missing label.

    The path of a sample is its row number, counted from 1, followed by the path of its first file:
    ``posts.csv/000017`` or ``faces.csv/000017/photos/a.jpg``.
    """

    def __init__(self, documentation: Documentation, generate: Callable[[], pd.DataFrame] | None = None) -> None:
        """Keep the documentation and the generator.

        Args:
            documentation: Texts for the cards.
            generate: Returns the table if it is missing; None if the user provides it.
        """
        writing = None if generate is None else functools.partial(_write, generate)
        super().__init__(documentation, writing, "put the table there, or set data.path")
        self._inputs: tuple[str, ...] = ()
        self._files: tuple[str, ...] = ()
        self._columns: Columns = {}

    def configured(self, inputs: Mapping[str, Input], columns: Columns) -> Self:
        configured = copy.copy(self)
        configured._inputs = tuple(inputs)
        configured._files = files_among(inputs)
        configured._columns = columns
        return configured

    def records(self, source: Path) -> Iterator[tuple[str, Record | Rejection]]:
        table = _open(source)
        if self._files and table.members is None:
            raise DataError(
                f"{source} names files in the input {self._files[0]}: set data.path to the folder or the archive that "
                "holds this table and the files, so that DVC notices when they change"
            )
        inputs = {name: table.cells(name, self._columns, "input", SETTING) for name in self._inputs}
        files = {name: inputs[name] for name in self._files}
        mapped_heads = [name for name in self._columns if name not in self._inputs]
        labels = {name: table.cells(name, self._columns, "head", SETTING) for name in mapped_heads}
        used: set[str | None] = set()
        for number, row in enumerate(table.frame.to_dict("records")):
            path = table.row_name(number, [cells[number] for cells in files.values()])
            members = {name: table.member(cells[number]) for name, cells in files.items()}
            used.update(members.values())
            if problem := _file_problem(table, {name: cells[number] for name, cells in files.items()}, members):
                yield path, problem
            else:
                mapped = {name: cells[number] for name, cells in labels.items()}
                yield path, Record({str(name): value for name, value in row.items()} | mapped)
        if self._files and (unused := len((table.members or set()) - used)):
            logger.info("%d files of %s are named in no row", unused, source.name)

    def contents(self, source: Path, inputs: Sequence[str]) -> Iterator[tuple[str, Mapping[str, bytes] | OSError]]:
        # Each row's path has the name of its first file, whichever input is read.
        return table_contents(source, inputs, self._columns, self._files)


def files_among(inputs: Mapping[str, Input]) -> tuple[str, ...]:
    """Return the names of the inputs whose samples are files."""
    return tuple(name for name, kind in inputs.items() if kind.FILE_SUFFIXES)


def table_contents(
    source: Path,
    inputs: Sequence[str],
    columns: Columns | None = None,
    files: Sequence[str] = (),
    skipped: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[str, Mapping[str, bytes] | OSError]]:
    """Yield the path of each row with the bytes of each input; see ``Table``.

    A table that is no part of a folder or an archive may be of any size: a few thousand rows are in memory.

    Args:
        source: The CSV or Parquet file, beside which its files lie, or a folder or archive with one.
        inputs: Names of the inputs.
        columns: The columns of inputs that have other names.
        files: Names of all inputs of the model whose samples are files, see ``files_among``.
        skipped: Called once for each row that would be yielded, in order; a row for which it is true is left out, and
            its files are not read.

    Raises:
        DataError: The table is missing, or has no column for an input.
        IntegrityError: The file cannot be read as a table.
    """
    for table in _streamed(source):
        yield from _row_contents(table, inputs, columns or {}, files, skipped)


def _row_contents(
    table: _Open, inputs: Sequence[str], columns: Columns, files: Sequence[str], skipped: Callable[[], bool]
) -> Iterator[tuple[str, Mapping[str, bytes] | OSError]]:
    source = table.source
    cells = {name: table.cells(name, columns, "input", "name a column so") for name in dict.fromkeys((*inputs, *files))}
    texts = [name for name in inputs if name not in files]

    def path(row: int) -> str:
        return table.row_name(row, [cells[name][row] for name in files])

    def text(row: int) -> dict[str, bytes]:
        return {name: cells[name][row].encode("utf-8", "surrogateescape") for name in texts}

    read = [name for name in inputs if name in files]
    if len(read) == 1 and table.members is not None and not source.is_dir():
        # An archive is read from its start to its end once.
        rows: dict[str | None, list[int]] = {}
        for row, cell in enumerate(cells[read[0]]):
            rows.setdefault(table.member(cell), []).append(row)
        for member, data in archives.selected(source, rows.__contains__):
            for row in rows.pop(member, ()):
                if not skipped():
                    yield path(row), data if isinstance(data, OSError) else {**text(row), read[0]: data}
        for row in sorted(itertools.chain.from_iterable(rows.values())):
            if not skipped():
                yield path(row), _no_file(cells[read[0]][row])
    else:
        folder = source if source.is_dir() else source.parent
        real = folder.resolve()
        for row in range(len(table.frame)):
            if skipped():
                continue
            try:
                yield path(row), text(row) | {name: _read_file(table, folder, real, cells[name][row]) for name in read}
            except OSError as error:
                yield path(row), error


def _read_file(table: _Open, folder: Path, real: Path, cell: str) -> bytes:
    member = table.member(cell)
    path = None if member is None else folder / member.removeprefix(f"{folder.name}/" if table.members else "")
    if path is None or not path.is_file():
        raise _no_file(cell)
    if not path.resolve().is_relative_to(real):
        raise PermissionError(errno.EACCES, f"{cell!r} is a link to a place outside of the table's folder")
    data = archives.read_file(path)
    if isinstance(data, OSError):
        raise data
    return data


def _no_file(cell: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, f"no file {cell!r} beside the table")


def count_rows(source: Path) -> int:
    """Return the number of rows of a CSV or Parquet file; a CSV is read from its start to its end.

    Raises:
        DataError: The table is empty.
        IntegrityError: The file cannot be read as a table.
    """
    if source.suffix.lower() == ".parquet":
        import pyarrow.parquet as pq

        with _reading(source):
            return int(pq.read_metadata(source).num_rows)
    return sum(len(table.frame) for table in _streamed(source))


class _Open(NamedTuple):
    """A table, or some rows of it, in memory.

    Attributes:
        frame: The cells as text, the columns named as in the file.
        name: The table's file name.
        folder: Path of the table's folder in its archive or folder, with a slash at its end, or an empty text.
        members: Paths of all other files of the archive or folder; None if the source is the table itself.
        source: The source, for messages.
        first: Number of rows of the file before the first of the frame.
    """

    frame: pd.DataFrame
    name: str
    folder: str
    members: set[str] | None
    source: Path
    first: int = 0

    def cells(self, name: str, columns: Columns, what: str, remedy: str) -> list[str]:
        """Return the text of each row for an input or a head.

        Raises:
            DataError: There is no such column.
        """
        wanted = columns.get(name, name)
        several = [wanted] if isinstance(wanted, str) else list(wanted)
        known = [str(column) for column in self.frame]
        for column in several:
            if column not in known:
                hint = did_you_mean(column, known)
                raise DataError(
                    f"{self.source} has no column {column!r} for the {what} {name}{hint}; it has {', '.join(known)}: "
                    + remedy.format(name)
                )
        lists = [self.frame[column].tolist() for column in several]
        return lists[0] if len(lists) == 1 else [" ".join(row).strip() for row in zip(*lists, strict=True)]

    def row_name(self, row: int, files: Sequence[str]) -> str:
        return "/".join(
            filter(None, [self.name, f"{self.first + row + 1:06d}", *(normal_path(file) for file in files[:1])])
        )

    def member(self, cell: str) -> str | None:
        """Return the path that a cell names in the archive or folder, or None if it is unsafe or empty."""
        path = normal_path(cell)
        return self.folder + path if path and is_safe(path) else None


def normal_path(cell: str) -> str:
    """Return the path that a cell names, with slashes and without detours through the folder itself."""
    path = cell.strip().replace("\\", "/")
    return re.sub(r"/+(\./+)*", "/", path).removeprefix("./")


def is_safe(path: str) -> bool:
    """Return whether a path from ``normal_path`` stays below the table's folder."""
    return not (path.startswith("/") or re.match(r"[A-Za-z]:", path) or ".." in path.split("/"))


def _file_problem(table: _Open, cells: Mapping[str, str], members: Mapping[str, str | None]) -> Rejection | None:
    for name, member in members.items():
        if not cells[name].strip():
            return Rejection("FILE_MISSING", f"The cell of {name} is empty.")
        if member is None:
            return Rejection("PATH_UNSAFE", f"The {name} {cells[name]!r} is no path below the table's folder.")
        if member not in (table.members or ()):
            return Rejection("FILE_MISSING", f"The {name} {cells[name]!r} is not beside {table.name}.")
    return None


def _open(source: Path) -> _Open:
    if not source.exists():
        raise DataError(f"{source} is missing: put the table there, or set data.path")
    if source.suffix.lower() in SUFFIXES and source.is_file():
        return _Open(read_frame(source, source.read_bytes()), source.name, "", None, source)
    if source.is_file() and not source.name.lower().endswith((".zip", ".tar", ".tgz", ".tar.gz")):
        raise DataError(f"{source} is no table: save it as .csv or .parquet, or set data.path")
    found = dict(archives.selected(source, _is_table))
    tables = [path for path in found if _is_table(path)]
    depth = min((path.count("/") for path in tables), default=0)
    top = [path for path in tables if path.count("/") == depth]
    if len(top) != 1:
        listed = f": {', '.join(sorted(top)[:3])}" if top else ""
        raise DataError(
            f"{source} has {len(top) or 'no'} tables at its top{listed}: put exactly one .csv or .parquet there, with "
            "paths relative to it, or name the table itself"
        )
    data = found.pop(top[0])
    if isinstance(data, OSError):
        raise DataError(f"{source}: {top[0]} cannot be read: {data.strerror or data}")
    folder, slash, name = top[0].rpartition("/")
    members = {path for path in found if not archives.is_junk(path)}
    return _Open(read_frame(source / name, data), name, folder + slash, members, source)


def _is_table(path: str) -> bool:
    return path.lower().endswith(SUFFIXES) and not archives.is_junk(path)


def _streamed(source: Path) -> Iterator[_Open]:
    """Yield the rows of a table that is a file, some thousands at a time; another table as a whole."""
    if not (source.suffix.lower() in SUFFIXES and source.is_file()):
        yield _open(source)
        return
    first = 0
    with _reading(source), source.open("rb") as file:
        for frame in _frames(source, file):
            yield _Open(frame, source.name, "", None, source, first)
            first += len(frame)


def read_frame(source: Path, data: bytes) -> pd.DataFrame:
    """Return a table with all cells as text; bytes that are not UTF-8 become lone surrogates.

    Args:
        source: The file, for its ending and for messages.
        data: Its bytes.

    Raises:
        DataError: The table is empty, or has two columns of one name.
        IntegrityError: The file cannot be read as a table.
    """
    import pandas as pd

    with _reading(source):
        return pd.concat(_frames(source, io.BytesIO(data)), ignore_index=True)


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    """Turn what libraries raise for a damaged table into an IntegrityError."""
    import pandas as pd
    import pyarrow as pa

    try:
        yield
    except (OSError, ValueError, csv.Error, pd.errors.ParserWarning, pa.ArrowException) as error:
        raise IntegrityError(f"{source} cannot be read as a table: {' '.join(str(error).split())[:200]}") from error


def _frames(source: Path, file: IO[bytes]) -> Iterator[pd.DataFrame]:
    """Yield the rows of ``read_frame``, at most ``ROWS_AT_ONCE`` at a time; at least one."""
    start = file.read(_HEADER_BYTES)
    while start and not start.strip():
        start = file.read(_HEADER_BYTES)
    if not start:
        raise DataError(f"{source} is empty: put a table with a header and rows there")
    file.seek(0)
    header: list[str] = []
    empty = True
    for frame in _parquet_frames(source, file) if source.suffix.lower() == ".parquet" else _csv_frames(source, file):
        header = [str(column) for column in frame]
        if len(frame):
            empty = False
            yield frame
    if empty:
        raise DataError(f"{source} has a header ({', '.join(header)}) and no rows: put rows there")


def _parquet_frames(source: Path, file: IO[bytes]) -> Iterator[pd.DataFrame]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(file)
    _require_distinct(source, parquet.schema_arrow.names)
    # Pandas turns a column of whole numbers into fractions if a cell is missing, in whichever rows it is.
    whole = [field.name for field in parquet.schema_arrow if pa.types.is_integer(field.type)]
    fractions = {
        name
        for batch in (parquet.iter_batches(ROWS_AT_ONCE, columns=whole) if whole else ())
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
        if column.null_count
    }
    pieces = (pa.Table.from_batches([batch]) for batch in parquet.iter_batches(ROWS_AT_ONCE))
    for piece in pieces if parquet.metadata.num_rows else [parquet.schema_arrow.empty_table()]:
        frame = piece.to_pandas()
        for name in fractions.intersection(frame):
            if isinstance(frame[name].dtype, np.dtype):
                frame[name] = frame[name].astype("float64")
        yield frame.astype(object).where(frame.notna(), "").astype(str)


def _require_distinct(source: Path, columns: Sequence[str]) -> None:
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise DataError(f"{source} has several columns {twice[0]!r}: rename all but one")


def _csv_frames(source: Path, file: IO[bytes]) -> Iterator[pd.DataFrame]:
    import pandas as pd

    data = file.read(_HEADER_BYTES)
    file.seek(0)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        raise IntegrityError(f"{source} is not UTF-8 text: save it as CSV in UTF-8")
    start = data.decode("utf-8-sig", "surrogateescape")

    def first_rows(delimiter: str) -> list[list[str]]:
        rows = csv.reader(io.StringIO(start, newline=""), delimiter=delimiter, skipinitialspace=True)
        return list(islice(filter(None, rows), 2))

    def columns(delimiter: str) -> int:
        """Return the number of columns, or 1 if the header and the first row differ in it."""
        lengths = set(map(len, first_rows(delimiter)))
        return lengths.pop() if len(lengths) == 1 else 1

    # Many programs write a semicolon where the comma is the decimal point.
    delimiter = max(DELIMITERS, key=columns)
    if not (rows := first_rows(delimiter)):  # a mark of the encoding alone, or many blank lines
        raise DataError(f"{source} has no header at its start: put a table with a header and rows there")
    # Spreadsheets leave columns without a name, and pandas writes its index so.
    names = [name.strip() or f"unnamed_{i}" for i, name in enumerate(rows[0], start=1)]
    _require_distinct(source, names)
    chunks = pd.read_csv(
        file, sep=delimiter, dtype=object, keep_default_na=False, skipinitialspace=True,
        encoding="utf-8", encoding_errors="surrogateescape", index_col=False, chunksize=ROWS_AT_ONCE,
    )  # fmt: skip
    while True:
        with warnings.catch_warnings():
            # Pandas would drop the cells that rows have beyond the header.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = next(chunks, None)
        if frame is None:
            return
        yield frame.set_axis(names, axis=1).fillna("")


def _write(generate: Callable[[], pd.DataFrame], target: Path) -> None:
    from manyheads.runtime.files import atomic_write

    table = generate()
    with atomic_write(target) as unfinished:
        if target.suffix == ".parquet":
            table.to_parquet(unfinished, index=False)
        else:
            table.to_csv(unfinished, index=False, lineterminator="\n", encoding="utf-8")


DATASET = Table(undocumented("A table with one row per sample"))
