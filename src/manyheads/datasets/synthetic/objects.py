"""Synthetic images with one object or none, in a zip archive with a COCO file."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from manyheads.datasets.coco import Coco
from manyheads.datasets.documentation import synthetic
from manyheads.runtime.files import atomic_write

SEED = 20220319
IMAGES = 900
SIZE = 224
SHAPES = ("disc", "square", "triangle")
EMPTY_SHARE = 0.15
SIDES = (50, 120)


def generate(target: Path) -> None:
    """Write the archive of images and their COCO file.

    Args:
        target: The zip file.
    """
    random = np.random.default_rng(SEED)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with atomic_write(target) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        for number in range(IMAGES):
            image, shape, box = _image(random)
            name = f"{number:04d}.jpg"
            images.append({"id": number, "file_name": name, "width": SIZE, "height": SIZE})
            if shape is not None:
                annotations.append({"id": len(annotations), "image_id": number, "category_id": shape, "bbox": box})
            _add(archive, f"objects/{name}", image)
        categories = [{"id": number, "name": name} for number, name in enumerate(SHAPES)]
        described = {"images": images, "annotations": annotations, "categories": categories}
        _add(archive, f"objects/{Coco.ANNOTATIONS}", json.dumps(described).encode())


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # A fixed date makes the bytes of the archive reproducible.
    archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), content)


def _image(random: np.random.Generator) -> tuple[bytes, int | None, list[int]]:
    """Return a JPEG, the index of its shape and the box; the shape is None if there is no object."""
    ground = random.integers(60, 200, 3)
    noise = random.normal(0, 18, (SIZE // 8, SIZE // 8, 3))
    image = Image.fromarray(np.clip(ground + noise, 0, 255).astype(np.uint8)).resize((SIZE, SIZE))
    shape, box = None, [0, 0, 0, 0]
    if random.random() >= EMPTY_SHARE:
        shape = int(random.integers(len(SHAPES)))
        width, height = random.integers(*SIDES, 2)
        left, top = random.integers(0, SIZE - width), random.integers(0, SIZE - height)
        box = [int(left), int(top), int(width), int(height)]
        bright = ground.mean() < 130
        colour = tuple(random.integers(200, 256, 3) if bright else random.integers(0, 56, 3))
        ends = (left, top, left + width - 1, top + height - 1)
        pen = ImageDraw.Draw(image)
        if SHAPES[shape] == "disc":
            pen.ellipse(ends, fill=colour)
        elif SHAPES[shape] == "square":
            pen.rectangle(ends, fill=colour)
        else:
            pen.polygon([(left + width / 2, top), (ends[2], ends[3]), (left, ends[3])], fill=colour)
    buffer = io.BytesIO()
    image.filter(ImageFilter.GaussianBlur(0.7)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue(), shape, box


DATASET = Coco(
    synthetic(
        "to try heads for the class and the location of an object",
        "`class` is the shape in the image, or `nothing`; `box` is its bounding box, as shares of the image.",
    ),
    generate,
)
