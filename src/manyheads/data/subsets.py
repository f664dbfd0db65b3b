"""The subsets of the split as arrays, which audit, train and evaluate read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from manyheads.data.arrays import open_packed
from manyheads.data.tables import read_properties, read_samples, read_splits
from manyheads.errors import IntegrityError
from manyheads.heads import Head, Labels
from manyheads.inputs import Input
from manyheads.paths import Paths


@dataclass(frozen=True)
class Subset:
    """The samples of one subset of the split.

    Attributes:
        inputs: All packed samples of each input, shape (n_packed, ...), memory-mapped.
        rows: Rows of ``inputs`` that belong to this subset, shape (n,).
        paths: Path of each sample in the raw data, length n.
        labels: Labels of each head, shape (n,) or (n, width).
        groups: Duplicate group of each sample, length n.
        kinds: The inputs by name.
    """

    inputs: dict[str, npt.NDArray[Any]]
    rows: npt.NDArray[np.int64]
    paths: list[str]
    labels: dict[str, Labels]
    groups: list[str]
    kinds: Mapping[str, Input]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: npt.NDArray[np.integer[Any]]) -> Subset:
        """Return some of the samples, in the order of their positions ``chosen`` in this subset."""
        return replace(
            self,
            rows=self.rows[chosen],
            paths=[self.paths[row] for row in chosen],
            labels={name: labels[chosen] for name, labels in self.labels.items()},
            groups=[self.groups[row] for row in chosen],
        )


def load_subset(
    project: Paths, heads: Mapping[str, Head], inputs: Mapping[str, Input], name: Literal["train", "validation", "test"]
) -> Subset:
    """Load one subset of the split. Only the stage ``evaluate`` loads ``test``.

    Args:
        project: Paths of the packed samples and the split.
        heads: The heads by name.
        inputs: The inputs by name.
        name: Name of the subset.

    Raises:
        IntegrityError: A table is missing or damaged, or the split was made from other samples.
    """
    samples = read_samples(project.samples, heads)
    splits = read_splits(project.splits)
    arrays = {each: open_packed(project.packed(each), kind) for each, kind in inputs.items()}
    joined = samples.merge(splits[["path", "sha256", "subset"]], on=["path", "sha256"], how="inner")
    if not len(joined) == len(samples) == len(splits):
        raise IntegrityError(f"{project.splits} was not made from {project.samples}: run `dvc repro split`")
    lengths = {each: len(values) for each, values in arrays.items()}
    if len(set(lengths.values())) > 1 or samples["row"].max() >= min(lengths.values()):
        raise IntegrityError(
            f"{project.samples.parent}: {', '.join(f'{each} has {n:,} samples' for each, n in lengths.items())} and "
            f"{project.samples.name} rows up to {samples['row'].max():,}: these do not fit; run `dvc repro pack`"
        )
    chosen = joined[joined["subset"] == name]
    if chosen.empty:
        raise IntegrityError(f"{project.splits} has no sample in subset {name!r}: run `dvc repro split`")
    labels = {each: head.labels_of(chosen) for each, head in heads.items()}
    rows = chosen["row"].to_numpy(np.int64, copy=True)
    return Subset(arrays, rows, chosen["path"].tolist(), labels, chosen["group"].astype(str).tolist(), dict(inputs))


def property_ranges(
    project: Paths, inputs: Mapping[str, Input], subset: Subset
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the smallest and the largest value of each property in a subset, by input and name; see ``Encoded``.

    Args:
        project: Paths of the packed samples.
        inputs: The inputs by name.
        subset: A subset of the packed samples, not empty.

    Raises:
        IntegrityError: The table of properties is missing, damaged, or of other samples.
    """
    table = read_properties(project.properties)
    if missing := set(subset.rows.tolist()) - set(table.index):
        raise IntegrityError(f"{project.properties} lacks row {min(missing)} of the split: run `dvc repro pack`")
    chosen = table.loc[subset.rows]
    ranges = {str(column): (float(chosen[column].min()), float(chosen[column].max())) for column in chosen}
    return {
        name: {
            column.removeprefix(f"{name}/"): ends for column, ends in ranges.items() if column.startswith(f"{name}/")
        }
        for name in inputs
    }


def label_table(heads: Mapping[str, Head], subset: Subset) -> pd.DataFrame:
    """Return the labels of a subset as a table with the columns ``label_columns`` of each head."""
    columns: dict[str, Labels] = {}
    for name, head in heads.items():
        labels = np.atleast_2d(subset.labels[name].T).T
        columns |= {column: labels[:, i] for i, column in enumerate(head.label_columns)}
    return pd.DataFrame(columns)
