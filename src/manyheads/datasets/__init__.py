"""Datasets: where raw data comes from and what its labels are; one module for each, with its ``DATASET``.

``base`` has the forms that raw data comes in: images named by their labels, a table, a COCO file beside images.
"""

from collections.abc import Sequence
from importlib import import_module

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

BUILT_IN = ("sample", "utkface", "posts", "questions", "objects", "table")


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
    place = "utkface" if name == "utkface" else f"synthetic.{name}"
    dataset: Dataset = import_module(f"manyheads.datasets.{place}").DATASET
    return dataset
