"""Datasets of images with a COCO file that describes the object in each image."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from manyheads.datasets import archives
from manyheads.datasets.base import Dataset, Record, Rejection
from manyheads.datasets.documentation import Documentation
from manyheads.errors import DataError


class Coco(Dataset):
    """Images with at most one object each, and a COCO file ``annotations.json`` in the same folder.

    The labels are ``class``, the name of the category, and ``box``, the left and upper edge, width and height of the
    object as shares of the image's width and height. An image without annotation has the class ``nothing`` and no box.
    """

    ANNOTATIONS = "annotations.json"
    NOTHING = "nothing"

    def __init__(self, documentation: Documentation, generate: Callable[[Path], None] | None = None) -> None:
        """Keep the documentation and the generator.

        Args:
            documentation: Texts for the cards.
            generate: Writes the archive if it is missing; None if the user provides it.
        """
        super().__init__(documentation)
        self._generate = generate

    def provide(self, target: Path, original: Path) -> None:
        """Generate the archive unless it exists; see ``Dataset.provide``."""
        if self._generate is None or target.exists():
            super().provide(target, original)
        else:
            self._generate(target)

    def records(self, source: Path) -> Iterator[tuple[str, Record | Rejection]]:
        found: dict[str, bytes | OSError | None] = {}
        for path, data in archives.contents(source):
            found[path] = data if path.rpartition("/")[2] == self.ANNOTATIONS else None
        described = [(path, data) for path, data in found.items() if isinstance(data, bytes)]
        if len(described) != 1:
            raise DataError(f"{source} needs one file {self.ANNOTATIONS}, it has {len(described)} readable ones")
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
            yield folder + name, Rejection("IMAGE_MISSING", f"{self.ANNOTATIONS} lists this file, but it is missing.")

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
                f"{source}: {self.ANNOTATIONS} is not a COCO file ({type(error).__name__}: {error}): it needs images, "
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
