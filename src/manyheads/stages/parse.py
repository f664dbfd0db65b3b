"""Parse: names become labels.

Reads the names in the raw archive or folder, no pixels. Writes the manifest (accepted names and their labels,
sorted by path) and the table of rejected names with a code and a reason each, so that every file is accounted
for before anything is decoded.
"""

import logging
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import pandas as pd

from manyheads import archives, datasets, tables
from manyheads.config import Config
from manyheads.datasets.utkface import ParsedName, Rejection
from manyheads.errors import ConfigError, DataError, IntegrityError
from manyheads.heads import Head
from manyheads.layout import Layout
from manyheads.progress import track

logger = logging.getLogger(__name__)

NameParser = Callable[[str], ParsedName | Rejection]


class Parsed(NamedTuple):
    """What became of all names: columns of the manifest, and the rejected paths with their rejections."""

    manifest: dict[str, list[str] | list[int]]
    rejected: list[tuple[str, Rejection]]


def run(config: Config, inputs: Layout, outputs: Layout) -> None:
    """Write the manifest and the rejected names of the raw data.

    Args:
        config: The dataset, its place, and the heads whose labels are read.
        inputs: Where the raw data is found.
        outputs: Where the two tables go.

    Raises:
        ConfigError: The names give no label for a configured head.
        DataError: There is no usable name, or too large a share is rejected; nothing is written.
        IntegrityError: The archive is damaged or unsafe; nothing is written.
    """
    dataset, source = datasets.get(config.data.name), inputs.root / config.data.path
    if not source.exists():  # alone, without the stage before it
        dataset.provide(source, source)
    paths = sorted(track(archives.names(source), f"reading names of {source.name}"))
    parse_name: NameParser = dataset.parse_name
    manifest, rejected = parse(track(paths, "parsing names"), parse_name, config.data.heads)
    accepted = len(manifest["path"])
    if accepted + len(rejected) != len(paths):
        raise IntegrityError(f"{source}: {len(paths)} names in, {accepted} accepted and {len(rejected)} rejected out")
    check_share(config.data.path, accepted, rejected, config.data.max_reject_fraction)
    rows = ((printable(path), "parse", rejection.code, rejection.reason) for path, rejection in rejected)
    tables.write_rejected(outputs.rejected, rows)
    tables.write_table(outputs.manifest, pd.DataFrame(manifest))
    codes = Counter(rejection.code for _, rejection in rejected)
    junk = codes.pop("JUNK", 0)
    logger.info(
        "%s: %d names accepted, %d of them with a note; %d rejected%s; %d junk files",
        config.data.path,
        accepted,
        sum(map(bool, manifest["note"])),
        codes.total(),
        "".join(f", {code} {count}" for code, count in sorted(codes.items())),
        junk,
    )


def parse(paths: Iterable[str], parse_name: NameParser, heads: Mapping[str, Head]) -> Parsed:
    """Sort names into accepted and rejected ones.

    Args:
        paths: POSIX paths, sorted: of those that a file system may take for one, the first is accepted.
        parse_name: Reads the labels of one path.
        heads: The heads by name; their label spaces decide which labels are accepted.

    Returns:
        Manifest columns (``path``, a column of labels for each head, ``note``) and rejections, in the order
        of ``paths``.

    Raises:
        ConfigError: The names give no label for a head.
    """
    accepted: list[str] = []
    labels: dict[str, list[int]] = {name: [] for name in heads}
    notes: list[str] = []
    rejected: list[tuple[str, Rejection]] = []
    folded: set[str] = set()
    for path in paths:
        result = parse_name(path)
        if isinstance(result, ParsedName):
            result = _within_heads(result, heads)
        if isinstance(result, Rejection):
            rejected.append((path, result))
            continue
        key = unicodedata.normalize("NFC", path).casefold()
        if key in folded:
            reason = "Another path differs in case or in Unicode form alone; some systems take the two for one."
            rejected.append((path, Rejection("NAME_CLASH", reason)))
            continue
        folded.add(key)
        accepted.append(path)
        for name, column in labels.items():
            column.append(result.labels[name])
        notes.append(result.note)
    return Parsed({"path": accepted, **labels, "note": notes}, rejected)


def _within_heads(parsed: ParsedName, heads: Mapping[str, Head]) -> ParsedName | Rejection:
    if missing := heads.keys() - parsed.labels.keys():
        known = ", ".join(sorted(parsed.labels))
        raise ConfigError(f"data.heads names {', '.join(sorted(missing))}; the file names give {known} alone")
    refusals = [
        f"The {name} {refusal}." for name, head in heads.items() if (refusal := head.refuse(parsed.labels[name]))
    ]
    return Rejection("LABEL_RANGE", " ".join(refusals)) if refusals else parsed


def check_share(source: str, accepted: int, rejected: list[tuple[str, Rejection]], limit: float) -> None:
    """Refuse a set of which too much was rejected; junk files do not count.

    Args:
        source: What the names came from, for messages.
        accepted: How many names were accepted.
        rejected: The rejected paths and their rejections.
        limit: ``data.max_reject_fraction``.

    Raises:
        DataError: No name was accepted, or a larger share than ``limit`` rejected.
    """
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for path, rejection in rejected:
        if rejection.code != "JUNK":
            counts[rejection.code] += 1
            examples.setdefault(rejection.code, printable(path))
    total = accepted + counts.total()
    if not total:
        raise DataError(f"{source} holds no files but junk of operating systems: put the data there or set data.path")
    if accepted and counts.total() <= limit * total:
        return
    codes = "; ".join(f"{count} {code}, such as {examples[code]!r}" for code, count in sorted(counts.items()))
    raise DataError(
        f"{source}: {counts.total()} of {total} names are rejected ({codes}), more than "
        f"data.max_reject_fraction={limit:g} allows: mend the names or raise it; nothing was written"
    )


def printable(path: str) -> str:
    """Return ``path`` with escapes for what cannot be printed, such as line ends and undecodable bytes."""
    if path.isprintable():
        return path
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in path)
