"""Images a second of a training step, for each encoder and precision.

    python benchmarks/train_step.py --size 96

The compact encoder is also built with Keras's own batch normalization, to compare it with the fused kernel. Forward
pass, backward pass and optimizer are timed. Images and labels are random numbers, and reading data is not timed.
"""

import argparse
import time

import numpy as np

from manyheads.encoders import ArticleEncoder, CompactEncoder
from manyheads.heads import Categorical, LabelStatistics, Regression
from manyheads.inputs import ImageInput
from manyheads.modeling.build import build_network, compile_model
from manyheads.modeling.objective import HeadObjective
from manyheads.runtime import tensorflow

HEADS = {
    "age": Regression(name="age", unit="years", minimum=0, maximum=116),
    "race": Categorical(name="race", classes=("white", "black", "asian", "indian", "others")),
    "gender": Categorical(name="gender", classes=("male", "female")),
}
LOSSES = {"age": "mae", "race": "categorical_crossentropy", "gender": "categorical_crossentropy"}
STATISTICS = {
    "age": LabelStatistics(33.0, 20.0),
    "race": LabelStatistics(0.0, 1.0),
    "gender": LabelStatistics(0.0, 1.0),
}
OBJECTIVE = tuple(HeadObjective(head, LOSSES[name], 1.0, STATISTICS[name]) for name, head in HEADS.items())
COMPACT = CompactEncoder(stem=(32, 64), widths=(64, 128, 256), blocks=(1, 1, 1), dropout=0.2)


def images_per_second(encoder, size, precision, batch_size, steps):
    import keras

    inputs = {"image": ImageInput(image_size=size, duplicate_correlation=1)}
    network = build_network(encoder, OBJECTIVE, inputs, precision)
    network = compile_model(network, OBJECTIVE, keras.optimizers.AdamW(1e-3))
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (batch_size * steps, size, size, 3), dtype=np.uint8)
    labels = {"age": (0, 117), "race": (0, 5), "gender": (0, 2)}
    targets = {name: HEADS[name].targets(generator.integers(*ends, len(images))) for name, ends in labels.items()}
    network.fit(images, targets, batch_size=batch_size, epochs=1, verbose=0)  # traces and warms up
    began = time.perf_counter()
    network.fit(images, targets, batch_size=batch_size, epochs=1, verbose=0)
    return len(images) / (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96, help="image size of the compact encoder (default: 96)")
    parser.add_argument("--steps", type=int, default=15, help="steps that are timed (default: 15)")
    options = parser.parse_args()
    tensorflow.require_tensorflow()
    import keras

    from manyheads.encoders.layers import fused_normalization

    fused = fused_normalization.FusedBatchNormalization
    for name, layer in (("fused", fused), ("Keras's own", keras.layers.BatchNormalization)):
        fused_normalization.FusedBatchNormalization = layer
        for precision in ("mixed_bfloat16", "float32"):
            speed = images_per_second(COMPACT, options.size, precision, 64, options.steps)
            print(
                f"compact, {options.size} px, {precision:<14}, {name:<11} normalization: {speed:6.0f} images/s",
                flush=True,
            )
    speed = images_per_second(ArticleEncoder(), 198, "float32", 32, max(4, options.steps // 4))
    print(f"article, 198 px, float32: {speed:6.0f} images/s")


if __name__ == "__main__":
    main()
