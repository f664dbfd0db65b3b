"""Datasets of images with a COCO file that describes the object in each image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from manyheads.datasets import archives
from manyheads.datasets.base import JUNK, Dataset, Record, Rejection
from manyheads.datasets.documentation import undocumented
from manyheads.errors import DataError


class Coco(Dataset):
    """Images with at most one object each, and a COCO file ``annotations.json`` in the same folder.

    The COCO file may have another name if no other file ends in ``.json``. The labels are ``class``, the name of the
    category, and ``box``, the left and upper edge, width and height of the object as shares of the image's width and
    height. An image without annotation has the class ``nothing`` and no box.
    """

    ANNOTATIONS = "annotations.json"
    NOTHING = "nothing"

    def records(self, source: Path) -> Iterator[tuple[str, Record | Rejection]]:
        found = dict(archives.selected(source, lambda path: path.lower().endswith(".json")))
        described = [path for path in found if path.lower().endswith(".json") and not archives.is_junk(path)]
        if named := [path for path in described if path.rpartition("/")[2] == self.ANNOTATIONS]:
            described = named
        if len(described) != 1:
            listed = f": {', '.join(sorted(described)[:3])}" if described else ""
            raise DataError(f"{source} needs one COCO file {self.ANNOTATIONS}, it has {len(described)}{listed}")
        (annotations,) = described
        data = found[annotations]
        if isinstance(data, OSError):
            raise DataError(f"{source}: {annotations} cannot be read: {data.strerror or data}")
        folder = annotations.removesuffix(annotations.rpartition("/")[2])
        labels = self._labels(source, annotations, data)
        for path in sorted(set(found) - {annotations}):
            name = path.removeprefix(folder)
            if archives.is_junk(path):
                yield path, JUNK
            elif name not in labels:
                yield path, Rejection("NOT_ANNOTATED", f"{annotations} does not list this file among its images.")
            else:
                yield path, labels[name]
        for name in sorted(set(labels) - {path.removeprefix(folder) for path in found}):
            yield folder + name, Rejection("FILE_MISSING", f"{annotations} lists this file, but it is missing.")

    def _labels(self, source: Path, annotations: str, data: bytes) -> dict[str, Record | Rejection]:
        try:
            listed = json.loads(data)
            categories = {each["id"]: str(each["name"]) for each in listed["categories"]}
            images = {each["id"]: each for each in listed["images"]}
            objects: dict[Any, list[Any]] = {number: [] for number in images}
            for each in listed["annotations"]:
                objects[each["image_id"]].append((categories[each["category_id"]], [float(x) for x in each["bbox"]]))
            return {str(image["file_name"]): self._label(image, objects[number]) for number, image in images.items()}
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise DataError(
                f"{source}: {annotations} is not a COCO file ({type(error).__name__}: {error}): it needs images, "
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


DATASET = Coco(undocumented("Images with a COCO file that describes the object in each"))
