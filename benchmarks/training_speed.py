"""Images a second in training, for the article's code and for each recipe.

    python benchmarks/training_speed.py --archive data/raw/UTKFace.tar.gz

Each is timed in a process of its own, on all cores, several times in turns, so that a machine that slows down slows all
of them. For each recipe:

- training: feed, augmentation, forward and backward pass, optimizer, as `fit` runs them;
- input alone: the same feed without a model;
- convolutions: the time of the step's convolutions, forward and both backward passes, each alone in bfloat16 on this
  machine, as a share of the step. The rest of the step is everything else.

The article's code is a Python generator that opens and resizes one JPEG after another to 198 pixels, three branches,
float32, batches of 32. Images are those of the archive; labels are random.
"""

import argparse
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import results
from PIL import Image

from manyheads.config import composition
from manyheads.data.subsets import Subset
from manyheads.datasets import archives
from manyheads.paths import project_root
from manyheads.runtime import tensorflow
from manyheads.training import run
from manyheads.training.batches import Feed
from manyheads.training.compilation import compiled_model

RECIPES = ("minutes", "hour")


def photographs(archive, count):
    found = (data for _, data in archives.contents(archive) if isinstance(data, bytes))
    return [data for data, _ in zip(found, range(count), strict=False)]


def subset_of(heads, images, kinds):
    generator = np.random.default_rng(0)
    ends = {name: len(head.class_names) or head.maximum for name, head in heads.items()}
    labels = {name: generator.integers(0, end, len(images)) for name, end in ends.items()}
    names = [f"{i}" for i in range(len(images))]
    return Subset({"image": images}, np.arange(len(images)), names, labels, names, kinds)


def compiled(settings, fed):
    objective = run.training_objective(settings, fed)
    return compiled_model(settings.model, settings.inputs, objective, settings.train, settings.seed, fed).model


def article(archive, steps):
    """Return the images a second of the article's generator and network together."""
    settings = composition.compose(project_root(), ["experiment=article"])
    files = photographs(archive, 32 * steps)
    size = settings.inputs["image"].image_size
    fed = subset_of(settings.data.heads, np.zeros((len(files), 1, 1, 3), np.uint8), settings.inputs)
    network = compiled(settings, fed)
    targets = {name: head.targets(fed.labels[name]) for name, head in settings.data.heads.items()}

    def batches():
        for start in range(0, len(files), 32):
            opened = [Image.open(io.BytesIO(data)).convert("RGB") for data in files[start : start + 32]]
            pixels = np.stack([np.asarray(image.resize((size, size))) for image in opened])
            yield pixels, {name: values[start : start + 32] for name, values in targets.items()}

    network.train_on_batch(*next(batches()))
    began = time.perf_counter()
    for images, labels in batches():
        network.train_on_batch(images, labels)
    return {"training": len(files) / (time.perf_counter() - began)}


def recipe(name, archive, steps):
    """Return the recipe's images a second, in training and of the feed alone, and the convolutions' share of a step."""
    from manyheads.inputs.image_files import decode

    settings = composition.compose(project_root(), [f"experiment={name}"])
    batch = settings.train.batch_size
    files = photographs(archive, batch * steps)
    images = np.stack([decode(data, settings.inputs["image"].image_size).pixels for data in files])
    fed = subset_of(settings.data.heads, images, settings.inputs)
    network = compiled(settings, fed)
    train = settings.train
    feed = Feed(
        fed, settings.data.heads, batch, 1, training=True, augment=train.augment, mixup=train.mixup, cutmix=train.cutmix
    )
    network.fit(feed.epoch(1).take(2), verbose=0)
    began = time.perf_counter()
    network.fit(feed.epoch(1), verbose=0)
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    for _ in feed.epoch(1):
        pass
    alone = time.perf_counter() - began
    convolving = convolutions(network, batch) * steps
    return {"training": len(files) / seconds, "input": len(files) / alone, "convolutions": convolving / seconds}


def convolutions(network, batch):
    """Return the seconds that a step's convolutions take one by one, in bfloat16, forward and backward."""
    import keras
    import tensorflow as tf

    shapes = {}
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            key = (tuple(layer.input.shape[1:]), layer.kernel_size, layer.filters, layer.strides)
            shapes[key] = shapes.get(key, 0) + 1
    total = 0.0
    for (shape, kernel_size, filters, strides), times in shapes.items():
        x = tf.cast(tf.random.normal((batch, *shape)), tf.bfloat16)
        kernel = tf.cast(tf.random.normal((*kernel_size, shape[-1], filters)), tf.bfloat16)

        @tf.function
        def passes(x, kernel, strides=strides, first=shape[-1] == 3):
            with tf.GradientTape() as tape:
                tape.watch([x, kernel])
                y = tf.nn.conv2d(x, kernel, strides, "SAME")
            # A training step computes no gradient of the image.
            return tape.gradient(y, kernel if first else [x, kernel], output_gradients=y)

        passes(x, kernel)
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            passes(x, kernel)
            tf.test.experimental.sync_devices()
            taken.append(time.perf_counter() - began)
        total += times * float(np.median(taken))
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=Path("data/raw/UTKFace.tar.gz"), help="photographs to feed")
    parser.add_argument("--steps", type=int, default=20, help="steps that are timed, a turn (default: 20)")
    parser.add_argument(
        "--turns", type=int, default=3, help="how often each is timed; the result is the median (default: 3)"
    )
    parser.add_argument("--only", choices=("article", *RECIPES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        tensorflow.require_tensorflow()
        steps = max(4, options.steps // 4) if options.only == "article" else options.steps
        measured = (
            article(options.archive, steps)
            if options.only == "article"
            else recipe(options.only, options.archive, steps)
        )
        print(json.dumps(measured))
        return
    names = ("article", *RECIPES)
    measured = {name: [] for name in names}
    for _ in range(options.turns):
        for name in names:
            command = [sys.executable, __file__, "--only", name, "--archive", str(options.archive)]
            done = subprocess.run([*command, "--steps", str(options.steps)], capture_output=True, text=True, check=True)
            measured[name].append(json.loads(done.stdout.splitlines()[-1]))
    median = {
        name: {key: float(np.median([turn[key] for turn in turns])) for key in turns[0]}
        for name, turns in measured.items()
    }
    rows = [["the article's generator and network", f"{median['article']['training']:.0f}", "1", "", ""]]
    for name in RECIPES:
        speeds = median[name]
        rows.append(
            [
                f"`experiment={name}`",
                f"{speeds['training']:.0f}",
                f"{speeds['training'] / median['article']['training']:.1f}",
                f"{speeds['input'] / speeds['training']:.1f}",
                f"{speeds['convolutions']:.0%}",
            ]
        )
    results.write(
        "training_speed",
        "python benchmarks/training_speed.py",
        ["", "images/s", "x article", "input alone, x training", "convolutions' share of the step"],
        rows,
    )


if __name__ == "__main__":
    main()
