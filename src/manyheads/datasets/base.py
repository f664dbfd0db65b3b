"""What every dataset offers, and the three forms that raw data comes in."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from manyheads import archives
from manyheads.datasets.documentation import Documentation
from manyheads.errors import DataError, IntegrityError

if TYPE_CHECKING:
    import pandas as pd


class Record(NamedTuple):
    """What the raw data says of an accepted sample.

    Attributes:
        labels: By name; a head reads its own. A label that is missing is None or an empty text.
        note: What was unusual about it.
    """

    labels: Mapping[str, Any]
    note: str = ""


class Rejection(NamedTuple):
    """Why a sample was not accepted: a stable code, and a sentence for people."""

    code: str
    reason: str


class Dataset(ABC):
    """Where raw data comes from, what its labels are, and how its inputs are read.

    Attributes:
        documentation: What the cards say of it.
    """

    def __init__(self, documentation: Documentation) -> None:
        """Keep what the cards say."""
        self.documentation = documentation

    def provide(self, target: Path, original: Path) -> None:
        """Make the raw data be at ``target``, or say how a person gets it.

        Args:
            target: The archive, folder or table, an absolute path inside the project.
            original: The same in the project that was copied; equal to ``target`` outside of a copy.

        Raises:
            DataError: The data is not there.
        """
        del original
        if not target.exists():
            raise DataError(f"{target} is missing: put the data there, or set data.path")

    @abstractmethod
    def records(self, source: Path) -> Iterator[tuple[str, Record | Rejection]]:
        """Yield every sample's path in the raw data, sorted, with its labels or why it is not accepted."""

    @abstractmethod
    def contents(self, source: Path, inputs: Sequence[str]) -> Iterator[tuple[str, Mapping[str, bytes] | OSError]]:
        """Yield every sample's path with the bytes of each input, in any order; others may be among them.

        Args:
            source: The raw data.
            inputs: Names of the inputs.
        """


class NamedImages(Dataset):
    """Images in an archive or a folder whose names say their labels."""

    def __init__(
        self,
        documentation: Documentation,
        parse_name: Callable[[str], Record | Rejection],
        provide: Callable[[Path, Path], None] | None = None,
    ) -> None:
        """Take the dataset's own functions.

        Args:
            documentation: What the cards say.
            parse_name: Reads the labels of one path.
            provide: Draws or finds the data, see ``Dataset.provide``; without it, a person brings it.
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


class Table(Dataset):
    """A CSV or Parquet file with a column for each input and each label, a sample a row.

    An input's cell is its text; several numbers stand apart by blanks. An empty cell of a label is a label that is not
    known. Paths are the row's number, counted from 1, such as ``posts.csv/000017``.
    """

    def __init__(self, documentation: Documentation, draw: Callable[[], pd.DataFrame] | None = None) -> None:
        """Take the dataset's generator.

        Args:
            documentation: What the cards say.
            draw: Returns the table where there is none; without it, a person brings one.
        """
        super().__init__(documentation)
        self._draw = draw

    def provide(self, target: Path, original: Path) -> None:
        """Draw the table unless one lies there; see ``Dataset.provide``."""
        if self._draw is None or target.exists():
            super().provide(target, original)
            return
        from manyheads.files import write_aside

        table = self._draw()
        with write_aside(target) as aside:
            if target.suffix == ".parquet":
                table.to_parquet(aside, index=False)
            else:
                table.to_csv(aside, index=False, lineterminator="\n", encoding="utf-8")

    def records(self, source: Path) -> Iterator[tuple[str, Record | Rejection]]:
        table = _read_table(source)
        for path, row in zip(_row_names(source, len(table)), table.to_dict("records"), strict=True):
            yield path, Record({str(name): value for name, value in row.items()})

    def contents(self, source: Path, inputs: Sequence[str]) -> Iterator[tuple[str, Mapping[str, bytes] | OSError]]:
        return table_contents(source, inputs)


def table_contents(source: Path, inputs: Sequence[str]) -> Iterator[tuple[str, Mapping[str, bytes]]]:
    """Yield a table's rows with the bytes of each input's cell; see ``Table``.

    Raises:
        DataError: It is missing, or has no column for an input.
        IntegrityError: It is no table.
    """
    table = _read_table(source)
    if missing := set(inputs) - set(table):
        found = ", ".join(map(str, table))
        raise DataError(f"{source} has no column {', '.join(sorted(missing))} for an input of pack; it has {found}")
    columns = [table[name].tolist() for name in inputs]
    for path, cells in zip(_row_names(source, len(table)), zip(*columns, strict=True), strict=True):
        yield path, {name: cell.encode("utf-8", "surrogateescape") for name, cell in zip(inputs, cells, strict=True)}


def _row_names(source: Path, n: int) -> list[str]:
    return [f"{source.name}/{row:06d}" for row in range(1, n + 1)]


def _read_table(source: Path) -> pd.DataFrame:
    """Read a table with all cells as text; bytes that are no UTF-8 survive as lone surrogates."""
    import pandas as pd

    try:
        if source.suffix == ".parquet":
            frame = pd.read_parquet(source)
            return frame.astype(object).where(frame.notna(), "").astype(str)
        return pd.read_csv(
            source, dtype=object, keep_default_na=False, encoding="utf-8", encoding_errors="surrogateescape"
        )
    except FileNotFoundError:
        raise DataError(f"{source} is missing: put the table there, or set data.path") from None
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{source} cannot be read as a table: {' '.join(str(error).split())[:200]}") from error


class Coco(Dataset):
    """Images with one object each at most, described by a COCO file ``annotations.json`` beside them.

    The labels are ``class``, the category's name, and ``box``, the object's left and upper edge, width and height as
    shares of the image's width and height. An image without annotation has the class ``nothing`` and no box.
    """

    ANNOTATIONS = "annotations.json"
    NOTHING = "nothing"

    def __init__(self, documentation: Documentation, draw: Callable[[Path], None] | None = None) -> None:
        """Take the dataset's generator.

        Args:
            documentation: What the cards say.
            draw: Writes the archive where there is none; without it, a person brings one.
        """
        super().__init__(documentation)
        self._draw = draw

    def provide(self, target: Path, original: Path) -> None:
        """Draw the archive unless one lies there; see ``Dataset.provide``."""
        if self._draw is None or target.exists():
            super().provide(target, original)
        else:
            self._draw(target)

    def records(self, source: Path) -> Iterator[tuple[str, Record | Rejection]]:
        found: dict[str, bytes | OSError | None] = {}
        for path, data in archives.contents(source):
            found[path] = data if path.rpartition("/")[2] == self.ANNOTATIONS else None
        described = [(path, data) for path, data in found.items() if isinstance(data, bytes)]
        if len(described) != 1:
            raise DataError(f"{source} needs one file {self.ANNOTATIONS}, it has {len(described)} that can be read")
        ((annotations, data),) = described
        folder = annotations.removesuffix(self.ANNOTATIONS)
        labels = self._labels(source, data)
        for path in sorted(set(found) - {annotations}):
            name = path.removeprefix(folder)
            if name not in labels:
                yield path, Rejection("NOT_ANNOTATED", f"{self.ANNOTATIONS} does not list this file among its images.")
            else:
                yield path, labels[name]
        for name in sorted(set(labels) - {path.removeprefix(folder) for path in found}):
            yield folder + name, Rejection("IMAGE_MISSING", f"{self.ANNOTATIONS} lists it; there is no such file.")

    def _labels(self, source: Path, data: bytes) -> dict[str, Record | Rejection]:
        try:
            listed = json.loads(data)
            categories = {each["id"]: str(each["name"]) for each in listed["categories"]}
            images = {each["id"]: each for each in listed["images"]}
            objects: dict[Any, list[Any]] = {number: [] for number in images}
            for each in listed["annotations"]:
                objects[each["image_id"]].append((categories[each["category_id"]], [float(x) for x in each["bbox"]]))
            return {str(image["file_name"]): self._label(image, objects[number]) for number, image in images.items()}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{source}: {self.ANNOTATIONS} is no COCO file ({type(error).__name__}: {error}): it needs images, "
                "annotations and categories with their ids"
            ) from error

    def _label(self, image: Mapping[str, Any], objects: list[Any]) -> Record | Rejection:
        if not objects:
            return Record({"class": self.NOTHING, "box": None})
        if len(objects) > 1:
            return Rejection("BOX_SEVERAL", f"{len(objects)} objects are annotated; the model locates one.")
        ((name, (left, top, width, height)),) = objects
        inside = left >= 0 and top >= 0 and left + width <= image["width"] and top + height <= image["height"]
        if not (inside and width > 0 and height > 0):
            return Rejection("BOX_RANGE", f"The box {[left, top, width, height]} is not inside its image, or is empty.")
        across, down = image["width"], image["height"]
        return Record({"class": name, "box": (left / across, top / down, width / across, height / down)})

    def contents(self, source: Path, inputs: Sequence[str]) -> Iterator[tuple[str, Mapping[str, bytes] | OSError]]:
        (name,) = inputs
        for path, data in archives.contents(source):
            yield path, data if isinstance(data, OSError) else {name: data}
