"""Files sorted into one folder for each class."""

from __future__ import annotations

import copy
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from manyheads.datasets import archives
from manyheads.datasets.base import JUNK, Columns, Dataset, Record, Rejection
from manyheads.datasets.documentation import undocumented
from manyheads.errors import ConfigError

if TYPE_CHECKING:
    from manyheads.inputs import Input


class ClassFolders(Dataset):
    """Files in a folder for each class, ``class/file.jpg``, in a folder or an archive.

    The label ``class`` is the name of a file's folder. Folders that all files have in common are left out, such as the
    one at the top of many archives.
    """

    LABEL = "class"

    suffixes: tuple[str, ...] = ()

    def configured(self, inputs: Mapping[str, Input], columns: Columns) -> Self:
        super().configured(inputs, columns)
        if len(inputs) > 1:
            raise ConfigError(
                f"inputs has {', '.join(inputs)}: class folders hold one file a sample, so name one input"
            )
        configured = copy.copy(self)
        (kind,) = inputs.values()
        configured.suffixes = kind.FILE_SUFFIXES
        return configured

    def records(self, source: Path) -> Iterator[tuple[str, Record | Rejection]]:
        paths = sorted(archives.names(source))
        samples = {path for path in paths if self._is_sample(path)}
        common = posixpath.commonpath([posixpath.dirname(posixpath.dirname(path)) for path in samples] or [""])
        for path in paths:
            below = path.removeprefix(f"{common}/").split("/")
            if archives.is_junk(path):
                yield path, JUNK
            elif path not in samples:
                yield path, Rejection("SUFFIX_UNKNOWN", f"The name does not end in {', '.join(self.suffixes)}.")
            elif len(below) != 2:
                yield path, Rejection("FOLDER_DEPTH", f"It is not class/file below {common or source.name}.")
            else:
                yield path, Record({self.LABEL: below[0]})

    def _is_sample(self, path: str) -> bool:
        return not archives.is_junk(path) and path.lower().endswith(self.suffixes or ("",))

    def contents(self, source: Path, inputs: Sequence[str]) -> Iterator[tuple[str, Mapping[str, bytes] | OSError]]:
        (name,) = inputs
        for path, data in archives.contents(source):
            yield path, data if isinstance(data, OSError) else {name: data}


DATASET = ClassFolders(undocumented("Files in a folder for each class"))
