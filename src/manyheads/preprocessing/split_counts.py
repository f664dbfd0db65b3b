"""Counts of a split: samples, duplicate groups, leaks and labels by subset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from manyheads.preprocessing.splitting import EXCLUDED, SUBSETS, Heads, conflicts


def count_split(
    samples: pd.DataFrame, heads: Heads, splits: pd.DataFrame, missing: Mapping[str, list[str]]
) -> dict[str, Any]:
    """Return the content of ``reports/split.json``: numbers in nested dictionaries.

    Args:
        samples: The packed samples, one row each, with ``sha256``, ``group`` and the heads' labels.
        heads: The heads by name.
        splits: ``subset`` and ``rule`` of each sample, in the same order.
        missing: Names in each list that are not in the data.
    """
    subsets = {name: samples[splits["subset"] == name] for name in (*SUBSETS, EXCLUDED)}
    seen = pd.concat([subsets["train"], subsets["validation"]])
    conflicting = samples[conflicts(samples, heads)]
    return {
        "samples": {"all": len(samples), **{name: len(rows) for name, rows in subsets.items()}},
        "excluded": {rule: int((splits["rule"] == rule).sum()) for rule in sorted(set(splits["rule"]) - {""})},
        "groups": {
            "all": samples["group"].nunique(),
            **{name: rows["group"].nunique() for name, rows in subsets.items()},
        },
        "conflicting": {"groups": conflicting["group"].nunique(), "samples": len(conflicting)},
        "leaked": {column: int(subsets["test"][column].isin(seen[column]).sum()) for column in ("sha256", "group")},
        "missing": {name: len(names) for name, names in missing.items()},
        "labels": {
            name: {head_name: head.describe(head.labels_of(subsets[name])) for head_name, head in heads.items()}
            for name in SUBSETS
        },
    }
