"""The gate of the registry: whether a model takes the place of the champion.

Both models have predicted the same test samples. The candidate is promoted only if no head's main metric is worse and
at least one, or the required one, is better. *Worse* and *better* are those of ``paired``: the 95 % interval of the
paired difference leaves out 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from manyheads.errors import ConfigError, DataError, did_you_mean
from manyheads.evaluation.paired import Difference, Paired, pair
from manyheads.heads import Head


class Evaluated(NamedTuple):
    """What the gate knows of a model.

    Attributes:
        heads: Its heads by name.
        predictions: ``reports/predictions.csv``: labels and predictions of its test subset.
    """

    heads: Mapping[str, Head]
    predictions: pd.DataFrame


class Judgement(NamedTuple):
    """What the gate found.

    Attributes:
        promoted: Whether the candidate takes the place of the champion.
        compared: The main metric of each head, the champion first; None if the two cannot be compared.
        obstacle: Why they cannot be compared, or an empty text.
        required: The head that has to be better, or an empty text if any will do.
    """

    promoted: bool
    compared: Paired | None
    obstacle: str = ""
    required: str = ""

    def which(self, better: bool | None) -> list[Difference]:
        """Return the main metrics that are better (True), worse (False) or not seen to differ (None)."""
        return [row for row in self.compared.differences if row.better is better] if self.compared else []


def judge(champion: Evaluated, candidate: Evaluated, required: str = "") -> Judgement:
    """Judge a candidate against the champion.

    Args:
        champion: The model to replace.
        candidate: The model that may take its place.
        required: The head whose main metric has to be better; any head by default.

    Raises:
        ConfigError: The candidate has no head of the required name.
    """
    require_head(candidate.heads, required)
    if different := _different_heads(champion.heads, candidate.heads):
        return Judgement(False, None, different, required)
    try:
        compared = pair(candidate.heads, champion.predictions, candidate.predictions)
    except DataError as error:
        return Judgement(False, None, str(error), required)
    main = [row for row in compared.differences if row.metric.name == candidate.heads[row.head].main_metric]
    if unknown := [name for name in candidate.heads if name not in {row.head for row in main}]:
        return Judgement(False, None, f"the main metric of {', '.join(unknown)} is not known of both", required)
    wanted = [row for row in main if required in ("", row.head)]
    promoted = all(row.better is not False for row in main) and any(row.better for row in wanted)
    return Judgement(promoted, compared._replace(differences=main), required=required)


def require_head(heads: Mapping[str, Head], required: str) -> None:
    """Raise an error if a required head is not one of the heads.

    Raises:
        ConfigError: There is no such head; an empty name requires none.
    """
    if required and required not in heads:
        raise ConfigError(
            f"--require {required}: the model has no such head{did_you_mean(required, [*heads])} "
            f"(heads: {', '.join(heads)})"
        )


def _different_heads(first: Mapping[str, Head], second: Mapping[str, Head]) -> str:
    if set(first) != set(second):
        return f"the champion has the heads {', '.join(first)}, this model has {', '.join(second)}"
    changed = [name for name, head in first.items() if _labels_of(head) != _labels_of(second[name])]
    return f"the champion's labels are others for the head {', '.join(changed)}" if changed else ""


def _labels_of(head: Head) -> tuple[object, ...]:
    return type(head), head.class_names, head.label_unit, head.main_metric
