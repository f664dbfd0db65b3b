"""The subsets of the split as arrays: what train and evaluate read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from manyheads.config.schema import Config
from manyheads.data.arrays import open_packed
from manyheads.data.tables import read_samples, read_splits
from manyheads.errors import IntegrityError
from manyheads.heads import Labels
from manyheads.inputs import Input
from manyheads.paths import Paths


@dataclass(frozen=True)
class Subset:
    """The samples of one subset of the split.

    Attributes:
        inputs: All packed samples of each input, shape (n_packed, ...), memory-mapped.
        rows: Rows of ``inputs`` that belong to this subset, shape (n,).
        paths: Path of each sample in the raw data.
        labels: Each head's labels, shape (n,) or (n, width).
        groups: Duplicate group of each sample.
        kinds: What the inputs are, by name.
    """

    inputs: dict[str, npt.NDArray[Any]]
    rows: npt.NDArray[np.int64]
    paths: list[str]
    labels: dict[str, Labels]
    groups: list[str]
    kinds: Mapping[str, Input]

    def __len__(self) -> int:
        return len(self.rows)


def load_subset(config: Config, layout: Paths, name: Literal["train", "validation", "test"]) -> Subset:
    """Load one subset of the split. Only evaluate asks for ``test``.

    Raises:
        IntegrityError: A table is missing or damaged, or the split was made from another pack.
    """
    samples = read_samples(layout.samples, config.data.heads)
    splits = read_splits(layout.splits)
    inputs = {name: open_packed(layout.packed(name), kind) for name, kind in config.inputs.items()}
    joined = samples.merge(splits[["path", "sha256", "subset"]], on=["path", "sha256"], how="inner")
    if not len(joined) == len(samples) == len(splits):
        raise IntegrityError(f"{layout.splits} was not made from {layout.samples}: run `dvc repro split`")
    lengths = {name: len(values) for name, values in inputs.items()}
    if len(set(lengths.values())) > 1 or samples["row"].max() >= min(lengths.values()):
        raise IntegrityError(
            f"{layout.samples.parent}: {', '.join(f'{name} has {n:,} samples' for name, n in lengths.items())} and "
            f"{layout.samples.name} rows up to {samples['row'].max():,}: this does not fit; run `dvc repro pack`"
        )
    chosen = joined[joined["subset"] == name]
    if chosen.empty:
        raise IntegrityError(f"{layout.splits} has no sample in subset {name!r}: run `dvc repro split`")
    labels = {name: head.labels_of(name, chosen) for name, head in config.data.heads.items()}
    rows = chosen["row"].to_numpy(np.int64, copy=True)
    return Subset(inputs, rows, chosen["path"].tolist(), labels, chosen["group"].astype(str).tolist(), config.inputs)


def label_table(subset: Subset) -> pd.DataFrame:
    """Return a subset's labels as a table, one column a head or, where a label is several numbers, a number."""
    columns = {}
    for name, labels in subset.labels.items():
        if labels.ndim == 1:
            columns[name] = labels
        else:
            columns |= {f"{name}_{i}": labels[:, i] for i in range(labels.shape[1])}
    return pd.DataFrame(columns)
