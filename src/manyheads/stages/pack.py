"""Pack: decode every image once, into one array that training maps into memory.

Reads ``data/manifest.csv`` and the raw data; writes the folder ``data/packed``: ``images.npy`` with one row
for each row of the manifest, ``samples.csv`` with labels, content hash and duplicate group of each decoded
image, and ``rejected.csv`` with what could not be decoded. Training then reads pixels at the speed of memory,
and nothing after this stage opens an image file.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd

from manyheads import archives, images, packed, progress, tables
from manyheads.config import Config
from manyheads.duplicates import Duplicates, group_duplicates
from manyheads.errors import DataError, IntegrityError
from manyheads.files import write_aside
from manyheads.layout import Layout

logger = logging.getLogger(__name__)


def run(config: Config, inputs: Layout, outputs: Layout) -> None:
    """Decode the manifest's images and write ``data/packed`` whole.

    Raises:
        DataError: Too large a share of the images cannot be decoded, or all of them.
        IntegrityError: The raw data no longer holds an image of the manifest.
        MachineError: The folder cannot be written.
    """
    manifest = tables.read_manifest(inputs.manifest, config.data.heads)
    paths = manifest["path"].tolist()
    source = inputs.root / config.data.path
    with write_aside(outputs.images.parent) as folder:
        folder.mkdir()
        began = time.monotonic()
        accepted, refused = decode_manifest(
            manifest, archives.contents(source), folder / outputs.images.name, config.pack.image_size, source
        )
        seconds = time.monotonic() - began
        check_share(paths, refused, config.data.max_reject_fraction)
        duplicates = group_duplicates(
            [sample.sha256 for sample in accepted],
            np.stack([sample.fingerprint for sample in accepted]),
            config.pack.duplicate_correlation,
        )
        samples = sample_table(manifest, accepted, duplicates)
        if len(samples) + len(refused) != len(manifest):
            raise IntegrityError(
                f"{inputs.manifest} has {len(manifest)} rows, but {len(samples)} were packed and "
                f"{len(refused)} rejected: this is a bug of pack, please report it"
            )
        tables.write_table(folder / outputs.samples.name, samples)
        tables.write_rejected(
            folder / outputs.undecodable.name,
            [(paths[row], "pack", code, reason) for row, code, reason in refused],
        )
    converted = Counter(sample.note for sample in accepted if sample.note)
    logger.info(
        "packed %d images at %d x %d (%.0f images/s), converted: %s; rejected: %s",
        len(samples),
        config.pack.image_size,
        config.pack.image_size,
        len(manifest) / seconds,
        _listed(converted),
        _listed(Counter(row.code for row in refused)),
    )
    logger.info(
        "%d groups: %d contents stand there more than once, %d pairs show the same photograph",
        len(set(duplicates.groups)),
        duplicates.identical_groups,
        duplicates.photograph_pairs,
    )


def decode_manifest(
    manifest: pd.DataFrame,
    members: Iterable[tuple[str, bytes | OSError]],
    target: Path,
    size: int,
    source: Path,
    decoder: packed.Decoder = images.decode,
    timeout: float = packed.TIMEOUT_SECONDS,
) -> tuple[list[packed.Packed], list[packed.Refused]]:
    """Decode the manifest's images into an array whose rows are the manifest's.

    Args:
        manifest: The accepted names, n rows.
        members: Path and bytes of each file of the raw data, in any order. Those that the manifest lacks are
            skipped.
        target: The array's file, (n, size, size, 3), uint8.
        size: Height and width of a packed image in pixels.
        source: The raw data, for messages.
        decoder: See ``packed.decode_into``.
        timeout: See ``packed.decode_into``.

    Returns:
        What was packed and what was refused, each in the order of the rows.

    Raises:
        DataError: The manifest is empty.
        IntegrityError: The raw data lacks an image of the manifest.
    """
    if manifest.empty:
        raise DataError("data/manifest.csv has no rows: run `python -m manyheads parse` on data with images")
    rows = {path: row for row, path in enumerate(manifest["path"])}
    accepted: list[packed.Packed] = []
    refused: list[packed.Refused] = []

    def wanted() -> Iterator[packed.Encoded]:
        for path, data in members:
            if (row := rows.pop(path, None)) is None:
                continue
            if isinstance(data, OSError):
                refused.append(packed.Refused(row, "IO_ERROR", data.strerror or str(data)))
            else:
                yield packed.Encoded(row, data)

    with closing(packed.decode_into(target, len(manifest), size, wanted(), decoder, timeout)) as outcomes:
        for outcome in progress.track(outcomes, "pack", len(manifest)):
            if isinstance(outcome, packed.Packed):
                accepted.append(outcome)
            else:
                refused.append(outcome)
    if rows:
        raise IntegrityError(
            f"{source} lacks {len(rows)} images of data/manifest.csv, such as {min(rows)!r}: "
            "the raw data changed; run `python -m manyheads parse` again"
        )
    return sorted(accepted, key=_row), sorted(refused, key=_row)


def _row(outcome: packed.Packed | packed.Refused) -> int:
    return outcome.row


def check_share(paths: list[str], refused: list[packed.Refused], most: float) -> None:
    """Raise DataError if a larger share than ``most`` of the paths was refused, or every one."""
    if len(refused) <= most * len(paths) and len(refused) < len(paths):
        return
    codes = _listed(Counter(row.code for row in refused))
    raise DataError(
        f"{len(refused)} of {len(paths)} images cannot be decoded ({codes}; such as "
        f"{paths[refused[0].row]!r}: {refused[0].reason}), more than data.max_reject_fraction={most:g}: "
        "mend or remove them, or raise it; nothing was written"
    )


def sample_table(manifest: pd.DataFrame, accepted: list[packed.Packed], duplicates: Duplicates) -> pd.DataFrame:
    """Return the table of samples: ``row``, ``path``, the labels, ``sha256``, ``group``, ``note``."""
    rows = [sample.row for sample in accepted]
    kept = manifest.iloc[rows]
    samples = kept.drop(columns="note").reset_index(drop=True)
    samples.insert(0, "row", rows)
    samples["sha256"] = [sample.sha256 for sample in accepted]
    samples["group"] = duplicates.groups
    samples["note"] = [
        "; ".join(filter(None, notes)) for notes in zip(kept["note"], (s.note for s in accepted), strict=True)
    ]
    return samples


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
