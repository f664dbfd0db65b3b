"""A synthetic table: one number as input, and two regressions of different width."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from manyheads.datasets.documentation import synthetic
from manyheads.datasets.table import Table

if TYPE_CHECKING:
    import pandas as pd

SEED = 20220318
ROWS = 600
NOISE = 0.1


def generate() -> pd.DataFrame:
    """Return a table of numbers and of linear functions of them with a little noise."""
    import pandas as pd

    random = np.random.default_rng(SEED)
    number = random.uniform(-1, 1, ROWS)
    noise = random.normal(0, NOISE, (ROWS, 3))
    one = 2 * number - 1 + noise[:, 0]
    two = np.stack([number, 0.5 - 3 * number], axis=1) + noise[:, 1:]
    return pd.DataFrame(
        {
            "number": [f"{value:.6f}" for value in number],
            "one": [f"{value:.6f}" for value in one],
            "two": [f"{left:.6f} {right:.6f}" for left, right in two],
        }
    )


DATASET = Table(
    synthetic(
        "to compare losses of regressions",
        "`one` and `two` are linear in the number, with noise of a standard deviation of 0.1.",
    ),
    generate,
)
