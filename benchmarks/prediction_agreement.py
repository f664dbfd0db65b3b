"""Differences between predictions of one model: alone or in a batch, in float32 or bfloat16, by predict or by Keras.

    python benchmarks/prediction_agreement.py

The model is that in `models/`, and the images are the first packed ones, so run `dvc repro` before. If the processor
has no bfloat16, TensorFlow emulates it: slowly, but with the same rounding of each layer's output.
"""

import argparse

import numpy as np
import results

from manyheads.data.arrays import open_packed
from manyheads.modeling import inference, saving
from manyheads.paths import Paths, project_root
from manyheads.runtime import tensorflow

IMAGES = 256


def difference(head, first, second):
    """Return mean and largest difference of two outputs, and the share of other labels, as three cells."""
    shown = [head.probabilities(each) if head.class_names else head.values(each) for each in (first, second)]
    apart = np.abs(shown[0] - shown[1])
    labels = f"{np.mean(head.values(first) != head.values(second)):.1%}" if head.class_names else ""
    return f"{apart.mean():.1e}", f"{apart.max():.1e}", labels


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    tensorflow.require_tensorflow()
    layout = Paths(project_root())
    saved = saving.load(layout.model)
    network, heads = saved.keras_model, saved.card.heads
    ((name, kind),) = saved.card.inputs.items()
    images = np.asarray(open_packed(layout.packed(name), kind)[:IMAGES])
    in_keras = network.predict(images, verbose=0)
    in_keras = {each: inference.outputs_of_head(head, in_keras) for each, head in heads.items()}
    rows = []
    for precision in ("float32", "mixed_bfloat16"):
        inference.fastest_precision = lambda precision=precision: precision
        predictor = inference.Predictor(network, heads, precision, saved.card.inputs)
        together = predictor({name: images})
        single = [predictor({name: images[i : i + 1]}) for i in range(IMAGES)]
        alone = {each: np.concatenate([outputs[each] for outputs in single]) for each in heads}
        for against, other in (("each alone", alone), ("`model.keras`", in_keras)):
            for each, head in heads.items():
                rows.append([f"predict, {precision}", against, each, *difference(head, together[each], other[each])])
    results.write(
        "prediction_agreement",
        "python benchmarks/prediction_agreement.py",
        ["a folder of them", "against", "head", "mean difference", "largest", "other labels"],
        rows,
    )


if __name__ == "__main__":
    main()
