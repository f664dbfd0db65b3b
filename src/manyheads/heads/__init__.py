"""Head kinds: what one output of the model is, from its label space to its report; one file for each kind.

Everything that differs between a regression and a classification lives here. The model, the loss, the report and the
predictions loop over heads and know no kind, so a new kind is one more file and one more member of ``HEADS``. A kind's
fields are its configuration: ``heads`` in ``conf/data/*.yaml``.

Keras is imported inside the methods that build with it; everything else needs NumPy and scikit-learn at most.
"""

from typing import Annotated, Any

from pydantic import PlainValidator, SerializeAsAny, ValidationInfo

from manyheads import extensions
from manyheads.heads.base import MISSING, Head, HeadReport, Labels, LabelStatistics, Outputs, Scale, Term
from manyheads.heads.binary import Binary
from manyheads.heads.box import Box
from manyheads.heads.categorical import Categorical
from manyheads.heads.regression import Regression
from manyheads.heads.score import baseline_metrics, skill_scores, total_score
from manyheads.heads.vector import Vector
from manyheads.metrics.metric import Metric

__all__ = [
    "HEADS",
    "MISSING",
    "AnyHead",
    "Binary",
    "Box",
    "Categorical",
    "Head",
    "HeadReport",
    "LabelStatistics",
    "Labels",
    "Metric",
    "Outputs",
    "Regression",
    "Scale",
    "Term",
    "Vector",
    "baseline_metrics",
    "skill_scores",
    "total_score",
]

HEADS: dict[str, type[Head]] = {
    "regression": Regression,
    "categorical": Categorical,
    "binary": Binary,
    "vector": Vector,
    "box": Box,
}


def _chosen(values: Any, info: ValidationInfo) -> Any:
    return extensions.chosen(values, "kind", HEADS, Head, info)


AnyHead = Annotated[SerializeAsAny[Head], PlainValidator(_chosen)]
