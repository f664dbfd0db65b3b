"""Pack: read every input of every sample once, into arrays that training maps into memory.

Reads ``data/manifest.csv`` and the raw data; writes the folder ``data/packed``: for each input an array such as
``image.npy`` with one row for each row of the manifest, ``samples.csv`` with labels, content hash and duplicate group
of each sample, and ``rejected.csv`` with what could not be read. Training then reads at the speed of memory, and
nothing after this stage opens the raw data.
"""

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from manyheads import datasets
from manyheads.config.schema import Config
from manyheads.data import tables
from manyheads.errors import DataError, IntegrityError
from manyheads.inputs import ImageInput, Input
from manyheads.paths import Paths
from manyheads.preprocessing import decoding
from manyheads.preprocessing.duplicates import Duplicates, group_duplicates
from manyheads.runtime import progress
from manyheads.runtime.files import atomic_write

logger = logging.getLogger(__name__)


def run(config: Config, inputs: Paths, outputs: Paths) -> None:
    """Encode the manifest's samples and write ``data/packed`` whole.

    Raises:
        DataError: Too large a share of the samples cannot be read, or all of them.
        IntegrityError: The raw data no longer holds a sample of the manifest.
        MachineError: The folder cannot be written.
    """
    manifest = tables.read_manifest(inputs.manifest, config.data.heads)
    paths = manifest["path"].tolist()
    source = inputs.root / config.data.path
    dataset = datasets.get(config.data.name, config.extensions)
    folder_of = outputs.samples.parent
    with atomic_write(folder_of) as folder:
        folder.mkdir()
        began = time.monotonic()
        by_input: dict[str, list[decoding.Packed]] = {}
        refusals: dict[int, decoding.Refused] = {}
        for name, kind in config.inputs.items():
            members = (
                (path, data if isinstance(data, OSError) else data[name])
                for path, data in dataset.contents(source, [name])
            )
            target = folder / outputs.packed(name).name
            by_input[name], refused = encode_manifest(manifest, members, target, kind, source, f"pack {name}")
            for refusal in refused:
                refusals.setdefault(refusal.row, refusal)
        seconds = time.monotonic() - began
        refused = [refusals[row] for row in sorted(refusals)]
        check_share(paths, refused, config.data.max_reject_fraction)
        accepted = together(by_input, refusals)
        duplicates = group_duplicates([sample.sha256 for sample in accepted], *_photographs(config.inputs, accepted))
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
        "packed %d samples, %s (%.0f a second), converted: %s; rejected: %s",
        len(samples),
        ", ".join(f"{name} {' x '.join(map(str, kind.shape))}" for name, kind in config.inputs.items()),
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


def together(by_input: Mapping[str, list[decoding.Packed]], refusals: Container[int]) -> list[decoding.Packed]:
    """Return what is known of each sample whose inputs could all be read, in the order of the rows.

    The hash of a sample with several inputs is that of the hashes of their bytes.
    """
    first, *others = by_input.values()
    if not others:
        return first
    rows = [{sample.row: sample for sample in samples} for samples in by_input.values()]
    found = []
    for row in sorted(set.intersection(*(set(samples) for samples in rows))):
        if row not in refusals:
            parts = [samples[row] for samples in rows]
            digest = hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest()
            notes = {part.note: None for part in parts if part.note}
            found.append(decoding.Packed(row, digest, None, "; ".join(notes)))
    return found


def _photographs(inputs: Mapping[str, Input], accepted: Sequence[decoding.Packed]) -> tuple[Any, float]:
    """Return the fingerprints and the correlation that make two samples duplicates; none without a lone image."""
    kinds = list(inputs.values())
    if len(kinds) == 1 and isinstance(kinds[0], ImageInput):
        return np.stack([cast("Any", sample.fingerprint) for sample in accepted]), kinds[0].duplicate_correlation
    return None, 1.0


def encode_manifest(
    manifest: pd.DataFrame,
    members: Iterable[tuple[str, bytes | OSError]],
    target: Path,
    kind: Input,
    source: Path,
    doing: str = "pack",
    timeout: float = decoding.TIMEOUT_SECONDS,
) -> tuple[list[decoding.Packed], list[decoding.Refused]]:
    """Encode one input of the manifest's samples into an array whose rows are the manifest's.

    Args:
        manifest: The accepted samples, n rows.
        members: Path and bytes of each sample of the raw data, in any order. Those that the manifest lacks are
            skipped.
        target: The array's file, (n, ``*kind.shape``).
        kind: How the bytes are read.
        source: The raw data, for messages.
        doing: What the progress bar says.
        timeout: See ``decoding.in_processes``.

    Returns:
        What was packed and what was refused, each in the order of the rows.

    Raises:
        DataError: The manifest is empty.
        IntegrityError: The raw data lacks a sample of the manifest.
    """
    if manifest.empty:
        raise DataError("data/manifest.csv has no rows: run `python -m manyheads parse` on data with samples")
    rows = {path: row for row, path in enumerate(manifest["path"])}
    accepted: list[decoding.Packed] = []
    refused: list[decoding.Refused] = []

    def wanted() -> Iterator[decoding.Raw]:
        for path, data in members:
            if (row := rows.pop(path, None)) is None:
                continue
            if isinstance(data, OSError):
                refused.append(decoding.Refused(row, "IO_ERROR", data.strerror or str(data)))
            else:
                yield decoding.Raw(row, data)

    with closing(decoding.encode_into(target, len(manifest), wanted(), kind, timeout)) as outcomes:
        for outcome in progress.track(outcomes, doing, len(manifest)):
            if isinstance(outcome, decoding.Packed):
                accepted.append(outcome)
            else:
                refused.append(outcome)
    if rows:
        raise IntegrityError(
            f"{source} lacks {len(rows)} samples of data/manifest.csv, such as {min(rows)!r}: "
            "the raw data changed; run `python -m manyheads parse` again"
        )
    return sorted(accepted, key=_row), sorted(refused, key=_row)


def _row(outcome: decoding.Packed | decoding.Refused) -> int:
    return outcome.row


def check_share(paths: list[str], refused: list[decoding.Refused], most: float) -> None:
    """Raise DataError if a larger share than ``most`` of the paths was refused, or every one."""
    if len(refused) <= most * len(paths) and len(refused) < len(paths):
        return
    codes = _listed(Counter(row.code for row in refused))
    raise DataError(
        f"{len(refused)} of {len(paths)} samples cannot be read ({codes}; such as "
        f"{paths[refused[0].row]!r}: {refused[0].reason}), more than data.max_reject_fraction={most:g}: "
        "mend or remove them, or raise it; nothing was written"
    )


def sample_table(manifest: pd.DataFrame, accepted: list[decoding.Packed], duplicates: Duplicates) -> pd.DataFrame:
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
