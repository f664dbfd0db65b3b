"""How often the gate of the registry promotes a model that is no better than the champion, and one that is.

    python benchmarks/promotion_by_chance.py

Two models of independent heads, in turn a regression and one with classes, predict the same test samples. Equal models
have errors of the same distribution. The better one has errors a quarter smaller, or rarer, in one head.
"""

import argparse

import numpy as np
import pandas as pd
import results

from manyheads.evaluation.promotion import Evaluated, judge
from manyheads.heads import Categorical, Regression

SAMPLES = 400
ERROR, GAIN = 0.2, 0.25


def make_heads(n):
    """Return heads by name; the first, `h0`, is a regression."""
    kinds = (Regression(unit="years", minimum=0, maximum=100), Categorical(classes=("right", "wrong")))
    return {f"h{i}": kinds[i % 2].model_copy(update={"name": f"h{i}"}) for i in range(n)}


def predicted(heads, gain, generator):
    """Return a table of predictions; the first head's error is smaller by a share."""
    columns = {"path": [f"{i}.jpg" for i in range(SAMPLES)], "group": [str(i) for i in range(SAMPLES)]}
    for i, (name, head) in enumerate(heads.items()):
        error = ERROR * (1 - gain if i == 0 else 1)
        if head.class_names:
            labels = np.where(generator.random(SAMPLES) < error, "wrong", "right")
            columns |= {f"{name}_label": "right", name: labels}
        else:
            columns |= {f"{name}_label": 50.0, name: 50 + generator.normal(0, 10 * error, SAMPLES)}
    return pd.DataFrame(columns)


def promoted(heads, gain, repetitions):
    """Return how often a model with a gain is promoted: if any head will do, and with `--require h0`."""
    generator = np.random.default_rng(len(heads))
    found = np.zeros(2)
    for _ in range(repetitions):
        judgement = judge(*(Evaluated(heads, predicted(heads, each, generator)) for each in (0, gain)))
        found += judgement.promoted, judgement.promoted and "h0" in {row.head for row in judgement.which(True)}
    return [f"{share:.1%}" for share in found / repetitions]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=500)
    repetitions = parser.parse_args().repetitions
    rows = [
        [n, f"{0.975**n - 0.95**n:.1%}", *(promoted(make_heads(n), gain, repetitions) for gain in (0, GAIN))]
        for n in (1, 3, 10)
    ]
    rows = [[n, theory, *equal, *better] for n, theory, equal, better in rows]
    results.write(
        "promotion_by_chance",
        "python benchmarks/promotion_by_chance.py",
        ["heads", "equal, in theory", "equal", "equal, `--require h0`", "h0 better", "h0 better, `--require h0`"],
        rows,
        f"Share of {repetitions:,} pairs of models in which the second is promoted; {SAMPLES} test samples.",
    )


if __name__ == "__main__":
    main()
