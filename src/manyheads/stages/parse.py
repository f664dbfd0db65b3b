"""Parse: what the raw data says of its samples becomes labels.

Reads the names in an archive or folder, a table, or the annotations beside images, and no pixels. Writes the manifest
(accepted samples and their labels, sorted by path) and the table of rejected ones with a code and a reason each, so
that every sample is accounted for before anything is decoded.
"""

import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from manyheads import datasets
from manyheads.config.schema import Config
from manyheads.data import tables
from manyheads.datasets import Record, Rejection
from manyheads.errors import ConfigError, DataError
from manyheads.heads import Head
from manyheads.paths import Paths
from manyheads.runtime.progress import track

logger = logging.getLogger(__name__)


class Parsed(NamedTuple):
    """What became of all samples: columns of the manifest, and the rejected paths with their rejections."""

    manifest: dict[str, list[Any]]
    rejected: list[tuple[str, Rejection]]


def run(config: Config, inputs: Paths, outputs: Paths) -> None:
    """Write the manifest and the rejected samples of the raw data.

    Args:
        config: The dataset, its place, and the heads whose labels are read.
        inputs: Where the raw data is found.
        outputs: Where the two tables go.

    Raises:
        ConfigError: The raw data has no label for a configured head.
        DataError: There is no usable sample, or too large a share is rejected; nothing is written.
        IntegrityError: The archive is damaged or unsafe; nothing is written.
    """
    dataset, source = datasets.get(config.data.name, config.extensions), inputs.root / config.data.path
    if not source.exists():  # alone, without the stage before it
        dataset.provide(source, source)
    records = track(dataset.records(source), f"parsing {source.name}")
    manifest, rejected = parse(records, config.data.heads)
    accepted = len(manifest["path"])
    check_share(config.data.path, accepted, rejected, config.data.max_reject_fraction)
    rows = ((printable(path), "parse", rejection.code, rejection.reason) for path, rejection in rejected)
    tables.write_rejected(outputs.rejected, rows)
    dtypes = {column: head.label_dtype for name, head in config.data.heads.items() for column in head.label_columns}
    tables.write_table(outputs.manifest, pd.DataFrame(manifest).astype(dtypes))
    codes = Counter(rejection.code for _, rejection in rejected)
    junk = codes.pop("JUNK", 0)
    logger.info(
        "%s: %d samples accepted, %d of them with a note; %d rejected%s; %d junk files",
        config.data.path,
        accepted,
        sum(map(bool, manifest["note"])),
        codes.total(),
        "".join(f", {code} {count}" for code, count in sorted(codes.items())),
        junk,
    )


def parse(records: Iterable[tuple[str, Record | Rejection]], heads: Mapping[str, Head]) -> Parsed:
    """Sort samples into accepted and rejected ones.

    A sample may lack labels for some heads, which then learn from the others; one that lacks all is rejected.

    Args:
        records: POSIX paths with what the raw data says of them, sorted by path: of those that a file system may take
            for one, the first is accepted.
        heads: The heads by name; their label spaces decide which labels are accepted.

    Returns:
        Manifest columns (``path``, each head's columns of labels, ``note``) and rejections, in their order.

    Raises:
        ConfigError: The raw data has no label for a head.
    """
    columns = [column for name, head in heads.items() for column in head.label_columns]
    manifest: dict[str, list[Any]] = {column: [] for column in ("path", *columns, "note")}
    rejected: list[tuple[str, Rejection]] = []
    folded: set[str] = set()
    for path, record in records:
        cells = record if isinstance(record, Rejection) else _cells(record, heads)
        if isinstance(cells, Rejection):
            rejected.append((path, cells))
            continue
        key = unicodedata.normalize("NFC", path).casefold()
        if key in folded:
            reason = "Another path differs in case or in Unicode form alone; some systems take the two for one."
            rejected.append((path, Rejection("NAME_CLASH", reason)))
            continue
        folded.add(key)
        row = [path, *cells, record.note if isinstance(record, Record) else ""]
        for column, cell in zip(manifest.values(), row, strict=True):
            column.append(cell)
    return Parsed(manifest, rejected)


def _cells(record: Record, heads: Mapping[str, Head]) -> list[Any] | Rejection:
    if missing := heads.keys() - record.labels.keys():
        known = ", ".join(sorted(record.labels))
        raise ConfigError(f"data.heads names {', '.join(sorted(missing))}; the data gives {known} alone")
    cells: list[Any] = []
    refusals = []
    for name, head in heads.items():
        try:
            cells += head.read(record.labels[name])
        except ValueError as refusal:
            refusals.append(f"The {name} {refusal}.")
    if refusals:
        return Rejection("LABEL_RANGE", " ".join(refusals))
    if heads and all(cell is None for cell in cells):
        return Rejection("LABEL_MISSING", "It has no label for any head.")
    return cells


def check_share(source: str, accepted: int, rejected: list[tuple[str, Rejection]], limit: float) -> None:
    """Refuse a set of which too much was rejected; junk files do not count.

    Args:
        source: What the samples came from, for messages.
        accepted: How many were accepted.
        rejected: The rejected paths and their rejections.
        limit: ``data.max_reject_fraction``.

    Raises:
        DataError: No sample was accepted, or a larger share than ``limit`` rejected.
    """
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for path, rejection in rejected:
        if rejection.code != "JUNK":
            counts[rejection.code] += 1
            examples.setdefault(rejection.code, printable(path))
    total = accepted + counts.total()
    if not total:
        raise DataError(
            f"{source} holds no samples, only junk of operating systems: put the data there or set data.path"
        )
    if accepted and counts.total() <= limit * total:
        return
    codes = "; ".join(f"{count} {code}, such as {examples[code]!r}" for code, count in sorted(counts.items()))
    raise DataError(
        f"{source}: {counts.total()} of {total} samples are rejected ({codes}), more than "
        f"data.max_reject_fraction={limit:g} allows: mend the data or raise it; nothing was written"
    )


def printable(path: str) -> str:
    """Return ``path`` with escapes for what cannot be printed, such as line ends and undecodable bytes."""
    if path.isprintable():
        return path
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in path)
