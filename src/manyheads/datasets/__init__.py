"""Datasets: where raw data comes from and what its labels are; one module for each, with its ``DATASET``.

A new dataset is one new file here, or in ``synthetic`` if the project makes the data itself: ``BUILT_IN`` finds it by
the module's name. ``named_images``, ``tabular`` and ``coco`` are forms that raw data comes in.
"""

from collections.abc import Sequence

from manyheads import extensions
from manyheads.datasets.base import Dataset, Record, Rejection
from manyheads.datasets.coco import Coco
from manyheads.datasets.documentation import Documentation
from manyheads.datasets.named_images import NamedImages
from manyheads.datasets.tabular import Table, table_contents
from manyheads.errors import ConfigError

__all__ = [
    "BUILT_IN",
    "Coco",
    "Dataset",
    "Documentation",
    "NamedImages",
    "Record",
    "Rejection",
    "Table",
    "get",
    "table_contents",
]

BUILT_IN: dict[str, Dataset] = extensions.built_in_objects("DATASET", __name__, f"{__name__}.synthetic")


def get(name: str, prefixes: Sequence[str] = ()) -> Dataset:
    """Return a dataset.

    Args:
        name: One of ``BUILT_IN``, or a reference such as ``extensions.wine:DATASET``.
        prefixes: Packages that references may import from.

    Raises:
        ConfigError: There is none of that name, or the reference may not be imported.
    """
    if ":" in name:
        found = extensions.load(name, prefixes)
        if not isinstance(found, Dataset):
            raise ConfigError(f"data.name={name} is no Dataset")
        return found
    if name not in BUILT_IN:
        raise ConfigError(f"data.name={name}: the datasets are {', '.join(sorted(BUILT_IN))}")
    return BUILT_IN[name]
