"""The table of predictions: ``reports/predictions.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from manyheads.evaluation.summary import Predicted
from manyheads.heads import Head


def prediction_table(heads: Mapping[str, Head], paths: Sequence[str], predicted: Predicted) -> pd.DataFrame:
    """Return one row a sample: ``path``, ``group``, and each head's label (``<head>_label``) and prediction columns.

    Args:
        heads: The heads by name.
        paths: Path of each sample.
        predicted: The samples' labels, duplicate groups and outputs.
    """
    columns: dict[str, Any] = {"path": paths, "group": predicted.groups}
    for name, head in heads.items():
        columns |= head.label_cells(predicted.labels[name]) | head.prediction_columns(predicted.outputs[name])
    return pd.DataFrame(columns)
