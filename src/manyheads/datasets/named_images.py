"""Datasets of images whose labels are in their file names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from manyheads.datasets import archives
from manyheads.datasets.base import REMEDY, Dataset, Record, Rejection
from manyheads.datasets.documentation import Documentation


class NamedImages(Dataset):
    """Images in an archive or a folder whose labels are in their file names."""

    def __init__(
        self,
        documentation: Documentation,
        parse_name: Callable[[str], Record | Rejection],
        remedy: str = REMEDY,
    ) -> None:
        """Keep what the dataset is and how to get it.

        Args:
            documentation: Texts for the cards.
            parse_name: Returns the labels of one path.
            remedy: How the user gets missing data, for messages.
        """
        super().__init__(documentation, remedy=remedy)
        self._parse_name = parse_name

    def records(self, source: Path) -> Iterator[tuple[str, Record | Rejection]]:
        return ((path, self._parse_name(path)) for path in sorted(archives.names(source)))

    def contents(self, source: Path, inputs: Sequence[str]) -> Iterator[tuple[str, Mapping[str, bytes] | OSError]]:
        (name,) = inputs
        for path, data in archives.contents(source):
            yield path, data if isinstance(data, OSError) else {name: data}
