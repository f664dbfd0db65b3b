"""Datasets of images whose labels are in their file names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from manyheads.datasets import archives
from manyheads.datasets.base import Dataset, Record, Rejection
from manyheads.datasets.documentation import Documentation


class NamedImages(Dataset):
    """Images in an archive or a folder whose labels are in their file names."""

    def __init__(
        self,
        documentation: Documentation,
        parse_name: Callable[[str], Record | Rejection],
        provide: Callable[[Path, Path], None] | None = None,
    ) -> None:
        """Keep the documentation and the functions of the dataset.

        Args:
            documentation: Texts for the cards.
            parse_name: Returns the labels of one path.
            provide: Creates or locates the data, see ``Dataset.provide``; None if the user provides it.
        """
        super().__init__(documentation)
        self._parse_name, self._provide = parse_name, provide

    def provide(self, target: Path, original: Path) -> None:
        (self._provide or super().provide)(target, original)

    def records(self, source: Path) -> Iterator[tuple[str, Record | Rejection]]:
        return ((path, self._parse_name(path)) for path in sorted(archives.names(source)))

    def contents(self, source: Path, inputs: Sequence[str]) -> Iterator[tuple[str, Mapping[str, bytes] | OSError]]:
        (name,) = inputs
        for path, data in archives.contents(source):
            yield path, data if isinstance(data, OSError) else {name: data}
