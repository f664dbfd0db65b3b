"""Packing: encoding of each input into an array, and the table of samples with duplicate groups."""

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
    """Packed and refused samples, each in the order of the manifest's rows."""

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
    """Encode one input of the manifest's samples into an array with the same rows.

    Args:
        manifest: The accepted samples, n rows.
        contents: Path and bytes of each sample of the raw data, in any order. Samples outside the manifest are skipped.
        name: Name of the input.
        kind: The input.
        target: File of the array, shape (n, ``*kind.shape``), of ``kind.dtype``.
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
    """Return the outcomes of samples with all their inputs.

    A sample is refused if one of its inputs is, with the reason of the first refused input. The hash of a sample with
    several inputs is the SHA-256 of their hashes; such a sample has no fingerprint.

    Args:
        by_input: The outcomes of each input.
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
        inputs = [samples[row] for samples in rows]
        digest = hashlib.sha256("".join(each.sha256 for each in inputs).encode()).hexdigest()
        notes = {each.note: None for each in inputs if each.note}
        packed.append(Packed(row, digest, None, "; ".join(notes), {}))
    return Outcomes(packed, in_order)


def find_duplicates(packed: Sequence[Packed], kinds: Sequence[Input]) -> Duplicates:
    """Return the duplicate groups of packed samples; near duplicates are found if samples have fingerprints.

    Args:
        packed: The samples, from ``join_inputs``.
        kinds: The inputs of the samples.
    """
    fingerprints = [sample.fingerprint for sample in packed if sample.fingerprint is not None]
    stacked = np.stack(fingerprints) if fingerprints else None
    return group_duplicates([sample.sha256 for sample in packed], stacked, kinds[0].near_duplicate_correlation)


def property_table(by_input: Mapping[str, Outcomes], packed: Sequence[Packed]) -> pd.DataFrame:
    """Return the properties of packed samples, see ``Encoded``: ``row`` and a column ``<input>/<property>`` for each.

    Args:
        by_input: The outcomes of each input by name.
        packed: The samples with all their inputs, from ``join_inputs``.
    """
    table = pd.DataFrame({"row": [sample.row for sample in packed]})
    columns = [table]
    for name, outcomes in by_input.items():
        of_row = {sample.row: sample.properties for sample in outcomes.packed}
        properties = pd.DataFrame.from_records([of_row[row] for row in table["row"]], index=table.index)
        columns.append(properties.add_prefix(f"{name}/"))
    return pd.concat(columns, axis=1)


def sample_table(manifest: pd.DataFrame, packed: Sequence[Packed], duplicates: Duplicates) -> pd.DataFrame:
    """Return the table of samples: ``row``, ``path``, label columns, ``sha256``, ``group``, ``note``."""
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
