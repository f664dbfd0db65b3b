"""Share of samples that predict marks as far from the training data, for kinds of pictures that are and are not.

    python benchmarks/novelty.py

The model in `models/` takes one image; run `dvc repro` with experiment=minutes before. The cards are those of the
synthetic sample, which is made if it is missing.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
import results

from manyheads.data.subsets import load_subset
from manyheads.datasets import archives, get
from manyheads.errors import Unreadable
from manyheads.modeling import novelty, saving
from manyheads.paths import Paths, project_root
from manyheads.runtime import tensorflow

COUNT = 300


def flat(random, size):
    return np.full((size, size, 3), random.integers(0, 256, 3), np.uint8)


def noise(random, size, coarse=None):
    pixels = random.integers(0, 256, (coarse or size, coarse or size, 3)).astype(np.uint8)
    return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_CUBIC) if coarse else pixels


def small_in_picture(image, share, random):
    """Return a picture of coarse noise with an image on a share of its height and width."""
    size = len(image)
    side = round(share * size)
    left, top = random.integers(0, size - side + 1, 2)
    picture = noise(random, size, 8)
    picture[top : top + side, left : left + side] = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return picture


def cards(kind):
    """Return the first cards of the synthetic sample, decoded."""
    images = []
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "sample.zip"
        get("sample").provide(target, target)
        for _, data in archives.contents(target):
            try:
                images.append(kind.encode(data).values)
            except Unreadable:
                continue
            if len(images) == COUNT:
                break
    return images


def pictures(images, kind):
    """Return the kinds of pictures by name, each as a list of images of the model's size."""
    random = np.random.default_rng(0)
    size = kind.image_size
    return {
        "test files": images,
        "black": [np.zeros((size, size, 3), np.uint8)],
        "white": [np.full((size, size, 3), 255, np.uint8)],
        "one colour": [flat(random, size) for _ in range(COUNT)],
        "noise": [noise(random, size) for _ in range(COUNT)],
        "smooth blotches": [noise(random, size, 6) for _ in range(COUNT)],
        "gradients": [noise(random, size, 2) for _ in range(COUNT)],
        "cards of the sample": cards(kind),
        **{f"a test file on {share:.0%} of the side": [small_in_picture(image, share, random) for image in images]
           for share in (0.15, 0.3, 0.5, 0.7)},
        "blurred by a sixteenth of the side": [cv2.GaussianBlur(image, (0, 0), size / 16) for image in images],
        "negative": [255 - image for image in images],
        "turned by 90°": [np.rot90(image) for image in images],
        "upside down": [image[::-1] for image in images],
        "in grey": [cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) for image in images],
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    tensorflow.require_tensorflow()
    layout = Paths(project_root())
    saved = saving.load(layout.model)
    ((name, kind),) = saved.card.inputs.items()
    test = load_subset(layout, saved.card.heads, saved.card.inputs, "test")
    predictor = saved.predictor()

    def marked(images, rows=None):
        _, features = predictor.with_features({name: images}, rows)
        return f"{np.mean(novelty.distances(features, saved.directions) > saved.card.reference.distance_limit):.1%}"

    rows = [["the whole test subset", len(test), marked(test.inputs[name], test.rows)]]
    chosen = np.sort(np.random.default_rng(0).permutation(test.rows)[:COUNT])
    for what, images in pictures(list(np.asarray(test.inputs[name][chosen])), kind).items():
        rows.append([what, len(images), marked(np.stack(images))])
    results.write("novelty", "python benchmarks/novelty.py", ["pictures", "number", "marked by their distance"], rows)


if __name__ == "__main__":
    main()
