"""Datasets: where raw data comes from and what its labels are. Each module defines one as ``DATASET``.

A new dataset is one new file in this package, or in ``synthetic`` if the project generates the data: ``BUILT_IN`` finds
it by the name of its module. ``named_images`` is the base class of datasets whose labels are in file names.
"""

from collections.abc import Sequence

from manyheads import extensions
from manyheads.datasets.base import Dataset, Record, Rejection
from manyheads.datasets.class_folders import ClassFolders
from manyheads.datasets.coco import Coco
from manyheads.datasets.documentation import Documentation
from manyheads.datasets.named_images import NamedImages
from manyheads.datasets.table import Table, files_among, table_contents
from manyheads.errors import ConfigError

__all__ = [
    "BUILT_IN",
    "ClassFolders",
    "Coco",
    "Dataset",
    "Documentation",
    "NamedImages",
    "Record",
    "Rejection",
    "Table",
    "files_among",
    "get",
    "table_contents",
]

BUILT_IN: dict[str, Dataset] = extensions.built_in_objects("DATASET", __name__, f"{__name__}.synthetic")


def get(name: str, prefixes: Sequence[str] = ()) -> Dataset:
    """Return the dataset with a name.

    Args:
        name: One of ``BUILT_IN``, or a reference such as ``extensions.wine:DATASET``.
        prefixes: Packages that references may import from.

    Raises:
        ConfigError: No dataset has that name, or the reference cannot be imported.
    """
    if ":" in name:
        found = extensions.load(name, prefixes)
        if not isinstance(found, Dataset):
            raise ConfigError(f"data.name={name} is not a Dataset")
        return found
    if name not in BUILT_IN:
        raise ConfigError(f"data.name={name} is unknown: the datasets are {', '.join(sorted(BUILT_IN))}")
    return BUILT_IN[name]
