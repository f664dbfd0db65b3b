"""The parts of the split as arrays: what train and evaluate read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from manyheads.config import Config
from manyheads.errors import IntegrityError
from manyheads.heads import Labels
from manyheads.layout import Layout
from manyheads.packed import open_images
from manyheads.tables import read_samples, read_splits


@dataclass(frozen=True)
class Part:
    """The samples of one part of the split.

    Attributes:
        images: All packed images, shape (n_packed, size, size, 3), uint8, memory-mapped.
        rows: Rows of ``images`` that belong to this part, shape (n,).
        paths: Path of each sample in the raw data.
        labels: Each head's labels, shape (n,).
        groups: Duplicate group of each sample.
    """

    images: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]
    paths: list[str]
    labels: dict[str, Labels]
    groups: list[str]

    def __len__(self) -> int:
        return len(self.rows)


def load_part(config: Config, layout: Layout, name: Literal["train", "validation", "test"]) -> Part:
    """Load one part of the split. Only evaluate asks for ``test``.

    Raises:
        IntegrityError: A table is missing or damaged, or the split was made from another pack.
    """
    samples = read_samples(layout.samples, config.data.heads)
    splits = read_splits(layout.splits)
    images = open_images(layout.images)
    joined = samples.merge(splits[["path", "sha256", "part"]], on=["path", "sha256"], how="inner")
    if not len(joined) == len(samples) == len(splits):
        raise IntegrityError(f"{layout.splits} was not made from {layout.samples}: run `dvc repro split`")
    if images.shape[1] != config.pack.image_size or samples["row"].max() >= len(images):
        raise IntegrityError(
            f"{layout.images} does not fit pack.image_size={config.pack.image_size}: run `dvc repro pack`"
        )
    chosen = joined[joined["part"] == name]
    if chosen.empty:
        raise IntegrityError(f"{layout.splits} has no sample in part {name!r}: run `dvc repro split`")
    labels = {head: chosen[head].to_numpy(np.int64, copy=True) for head in config.data.heads}
    rows = chosen["row"].to_numpy(np.int64, copy=True)
    return Part(images, rows, chosen["path"].tolist(), labels, chosen["group"].astype(str).tolist())


def label_table(part: Part) -> pd.DataFrame:
    """Return a part's labels as a table, one column a head."""
    return pd.DataFrame(part.labels)
