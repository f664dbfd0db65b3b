"""Heads and inputs of images without a table: in folders of their classes, or with a COCO file."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from typing import Any

from manyheads.errors import ConfigError, DataError
from manyheads.guessing import settings
from manyheads.guessing.proposals import Finding, Part, Proposal
from manyheads.guessing.sources import Source
from manyheads.guessing.tables import FEWEST_SAMPLES_OF_A_CLASS

NOTHING = "nothing"
"""The class of an image without annotation."""


def propose_class_folders(source: Source) -> Proposal:
    """Return a head for the names of folders, and the image as input.

    Raises:
        DataError: Fewer than two classes have enough images.
    """
    counts = Counter(PurePosixPath(name).parent.name for name in source.members)
    names = _frequent(counts, "folders of at least")
    summary = f"{len(source.members):,} images in {len(counts)} folders, one for each class"
    proposal = Proposal("class_folders", summary, len(source.members), {}, {})
    proposal.heads["class"] = Part({"kind": "categorical", "classes": settings.in_order(names)})
    proposal.inputs["image"] = Part({"kind": "image"})
    proposal.findings.append(Finding("folder", "head class, categorical", _listed(counts)))
    return proposal


def propose_objects(source: Source) -> Proposal:
    """Return a head for the category of the object in each image and one for its box, and the image as input.

    Raises:
        DataError: Fewer than two categories have enough images with one object.
    """
    assert source.annotations is not None
    counts, several = _categories(source.annotations, set(source.members))
    total = counts.total() + several
    if not counts:
        raise DataError(
            f"all {several:,} images of {source.path} have several objects: the model locates one object an image; "
            "cut the images into one for each object"
        )
    names = _frequent(counts, "categories with at least")
    summary = f"{total:,} images with a COCO file"
    proposal = Proposal("coco", summary, total, {}, {})
    # A box weighs its loss by the presence of an object, which is any class but the first.
    ordered = [NOTHING] * (NOTHING in names) + sorted(set(names) - {NOTHING})
    proposal.heads["class"] = Part({"kind": "categorical", "classes": ordered})
    proposal.heads["box"] = Part(
        {"kind": "box"} | ({"of": "class"} if NOTHING in names else {}),
        comment="Left, top, width, height in shares of the image.",
    )
    proposal.inputs["image"] = Part({"kind": "image"})
    proposal.findings.append(Finding("category", "head class, categorical", _listed(counts)))
    proposal.findings.append(
        Finding("bbox", "head box", f"{counts.total() - counts[NOTHING]:,} images with one object")
    )
    if several:
        proposal.doubts.append(
            f"{several:,} of {total:,} images have several objects and are rejected, because the model locates one; "
            "cut them into one image for each object to use them"
        )
    return proposal


def _categories(annotations: Any, members: set[str]) -> tuple[Counter[str], int]:
    """Return the number of images of each category, and of images with several objects."""
    try:
        names = {each["id"]: str(each["name"]) for each in annotations["categories"]}
        images = {each["id"]: str(each["file_name"]) for each in annotations["images"]}
        objects: dict[Any, list[str]] = {number: [] for number, name in images.items() if name in members}
        for each in annotations["annotations"]:
            if each["image_id"] in objects:
                objects[each["image_id"]].append(names[each["category_id"]])
    except (TypeError, KeyError) as error:
        raise DataError(
            f"the COCO file lacks {error}: images need id and file_name, annotations image_id, category_id and bbox, "
            "categories id and name"
        ) from None
    counts = Counter(found[0] if found else NOTHING for found in objects.values() if len(found) < 2)
    return counts, sum(len(found) > 1 for found in objects.values())


def _frequent(counts: Counter[str], what: str) -> list[str]:
    names = [name for name, count in counts.items() if count >= FEWEST_SAMPLES_OF_A_CLASS]
    if len(names) < 2:
        found = ", ".join(f"{name} ({count})" for name, count in counts.most_common(4))
        raise DataError(
            f"a head needs two {what} {FEWEST_SAMPLES_OF_A_CLASS} images, one for each subset and more; found: {found}"
        )
    return names


def _listed(counts: Counter[str]) -> str:
    shown = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(5))
    return f"{len(counts)} distinct: {shown}{', …' if len(counts) > 5 else ''}"


def refuse_choice(heads: object, inputs: object) -> None:
    """Refuse ``--heads`` and ``--inputs`` for data without columns.

    Raises:
        ConfigError: One of them is given.
    """
    if heads or inputs:
        raise ConfigError("--heads and --inputs choose columns of a table, and this data has none")
