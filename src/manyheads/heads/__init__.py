"""Kinds of heads: each defines one output of the model, from its label space to its metrics. One file for each kind.

Everything that differs between a regression and a classification is here. The model, the loss, the report and the
predictions loop over heads without knowing their kinds. A new kind is one new file in this package: ``HEADS`` finds it
by the default of its field ``kind``. The fields of a kind are its configuration: ``heads`` in ``conf/data/*.yaml``.

Keras is imported inside the methods that build layers and losses; everything else needs NumPy at most.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializeAsAny

from manyheads import extensions
from manyheads.heads.base import MISSING, Head, HeadLoss, Labels, LabelStatistics, Outputs, Scale
from manyheads.heads.binary import Binary
from manyheads.heads.box import Box
from manyheads.heads.categorical import Categorical
from manyheads.heads.metrics import Metric
from manyheads.heads.regression import Regression
from manyheads.heads.score import baseline_metrics, skill_scores, total_score
from manyheads.heads.vector import Vector

__all__ = [
    "HEADS",
    "MISSING",
    "AnyHead",
    "Binary",
    "Box",
    "Categorical",
    "Head",
    "HeadLoss",
    "Heads",
    "LabelStatistics",
    "Labels",
    "Metric",
    "Outputs",
    "Regression",
    "Scale",
    "Vector",
    "baseline_metrics",
    "skill_scores",
    "total_score",
]

HEADS: dict[str, type[Head]] = extensions.built_in_classes(__name__, Head, "kind")

AnyHead = Annotated[SerializeAsAny[Head], extensions.member_of(HEADS, Head, "kind")]


def _with_names(heads: Any) -> Any:
    """Give each head its key as its name."""
    if not isinstance(heads, Mapping):
        return heads
    named: dict[str, Any] = {}
    for name, head in heads.items():
        if isinstance(head, Head):
            named[name] = head.model_copy(update={"name": name})
        elif isinstance(head, Mapping):
            if "name" in head:
                raise ValueError(f"{name} has the setting 'name': remove it, the name of a head is its key")
            named[name] = {**head, "name": name}
        else:
            named[name] = head
    return named


Heads = Annotated[dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], AnyHead], BeforeValidator(_with_names)]
"""Heads by name, as in ``data.heads``."""
