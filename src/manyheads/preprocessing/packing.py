"""Packing: each input becomes an array, and the samples become a table with their duplicate groups."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from manyheads.errors import DataError, IntegrityError
from manyheads.inputs import Input
from manyheads.preprocessing.decoding import Packed, Raw, Refused, encode_into
from manyheads.preprocessing.duplicates import Duplicates, group_duplicates
from manyheads.runtime.progress import track


class Outcomes(NamedTuple):
    """What was packed and what was refused, each in the order of the manifest's rows."""

    packed: list[Packed]
    refused: list[Refused]


def encode_manifest(
    manifest: pd.DataFrame,
    contents: Iterable[tuple[str, Mapping[str, bytes] | OSError]],
    name: str,
    kind: Input,
    target: Path,
    source: Path,
) -> Outcomes:
    """Encode one input of the manifest's samples into an array whose rows are the manifest's.

    Args:
        manifest: The accepted samples, n rows.
        contents: Path and bytes of each sample of the raw data, in any order. Those that the manifest lacks are
            skipped.
        name: The input's name.
        kind: How its bytes are read.
        target: The array's file, shape (n, ``*kind.shape``).
        source: The raw data, for messages.

    Raises:
        DataError: The manifest is empty.
        IntegrityError: The raw data lacks a sample of the manifest.
    """
    if manifest.empty:
        raise DataError("data/manifest.csv has no rows: run `python -m manyheads parse` on data with samples")
    rows = {path: row for row, path in enumerate(manifest["path"])}
    packed: list[Packed] = []
    refused: list[Refused] = []

    def wanted() -> Iterator[Raw]:
        for path, data in contents:
            if (row := rows.pop(path, None)) is None:
                continue
            if isinstance(data, OSError):
                refused.append(Refused(row, "IO_ERROR", data.strerror or str(data)))
            else:
                yield Raw(row, data[name])

    with closing(encode_into(target, len(manifest), wanted(), kind)) as outcomes:
        for outcome in track(outcomes, f"pack {name}", len(manifest)):
            if isinstance(outcome, Packed):
                packed.append(outcome)
            else:
                refused.append(outcome)
    if rows:
        raise IntegrityError(
            f"{source} lacks {len(rows)} samples of data/manifest.csv, such as {min(rows)!r}: "
            "the raw data changed; run `python -m manyheads parse` again"
        )
    return Outcomes(sorted(packed, key=_row), sorted(refused, key=_row))


def _row(outcome: Packed | Refused) -> int:
    return outcome.row


def join_inputs(by_input: Sequence[Outcomes]) -> Outcomes:
    """Return the outcomes of whole samples: a sample is refused if one of its inputs is, for the first one's reason.

    The hash of a sample with several inputs is that of the hashes of their bytes; it has no fingerprint.
    """
    refused: dict[int, Refused] = {}
    for outcomes in by_input:
        for each in outcomes.refused:
            refused.setdefault(each.row, each)
    in_order = [refused[row] for row in sorted(refused)]
    if len(by_input) == 1:
        return Outcomes(by_input[0].packed, in_order)
    rows = [{sample.row: sample for sample in outcomes.packed} for outcomes in by_input]
    packed = []
    for row in sorted(set.intersection(*(set(samples) for samples in rows))):
        parts = [samples[row] for samples in rows]
        digest = hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest()
        notes = {part.note: None for part in parts if part.note}
        packed.append(Packed(row, digest, None, "; ".join(notes)))
    return Outcomes(packed, in_order)


def find_duplicates(packed: Sequence[Packed], kinds: Sequence[Input]) -> Duplicates:
    """Return the duplicate groups of the packed samples, near duplicates among them where they have fingerprints.

    Args:
        packed: The samples, as ``join_inputs`` returns them.
        kinds: What their inputs are.
    """
    fingerprints = [sample.fingerprint for sample in packed if sample.fingerprint is not None]
    stacked = np.stack(fingerprints) if fingerprints else None
    return group_duplicates([sample.sha256 for sample in packed], stacked, kinds[0].near_duplicate_correlation)


def sample_table(manifest: pd.DataFrame, packed: Sequence[Packed], duplicates: Duplicates) -> pd.DataFrame:
    """Return the table of samples: ``row``, ``path``, the labels, ``sha256``, ``group``, ``note``."""
    rows = [sample.row for sample in packed]
    kept = manifest.iloc[rows]
    samples = kept.drop(columns="note").reset_index(drop=True)
    samples.insert(0, "row", rows)
    samples["sha256"] = [sample.sha256 for sample in packed]
    samples["group"] = duplicates.groups
    samples["note"] = [
        "; ".join(filter(None, notes)) for notes in zip(kept["note"], (s.note for s in packed), strict=True)
    ]
    return samples
