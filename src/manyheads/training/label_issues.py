"""Labels that are probably wrong, ranked by the disagreement of models that were trained without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from manyheads.heads import Head, Labels, Outputs

LISTED = 200
"""Number of samples that are listed for each head."""

COLUMNS = ["head", "rank", "path", "subset", "label", "predicted", "disagreement"]


def disagreements(
    heads: Mapping[str, Head],
    paths: Sequence[str],
    labels: Mapping[str, Labels],
    outputs: Mapping[str, Outputs],
    subset: str,
) -> pd.DataFrame:
    """Return the disagreement of outputs with labels, one row for each head and sample with a known label.

    Args:
        heads: The heads by name.
        paths: Path of each sample.
        labels: Each head's labels, shape (n,) or (n, width).
        outputs: Each head's outputs from a model that was trained without these samples, shape (n, units).
        subset: Name of the samples' subset.
    """
    tables = []
    for name, head in heads.items():
        known = np.flatnonzero(head.present(labels[name]))
        known_labels, known_outputs = labels[name][known], outputs[name][known]
        table = {
            "head": name,
            "path": [paths[row] for row in known.tolist()],
            "subset": subset,
            "label": head.texts(known_labels),
            "predicted": head.texts(head.values(known_outputs)),
            "disagreement": np.round(head.disagreement(known_labels, known_outputs), 4),
        }
        tables.append(pd.DataFrame(table).astype({"label": object, "predicted": object}))
    return pd.concat(tables)


def ranked(heads: Mapping[str, Head], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the ``LISTED`` largest disagreements of each head, in descending order."""
    issues = pd.concat(tables).sort_values(["disagreement", "path"], ascending=[False, True])
    issues = pd.concat([issues[issues["head"] == name].head(LISTED) for name in heads])
    issues["rank"] = issues.groupby("head").cumcount() + 1
    return issues[COLUMNS]
