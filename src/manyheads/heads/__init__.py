"""Head kinds: what one output of the model is, from its label space to its report; one file for each kind.

Everything that differs between a regression and a classification lives here. The model, the loss, the report and the
predictions loop over heads and know no kind. A new kind is one new file in this package: ``HEADS`` finds it by the
default of its field ``kind``. A kind's fields are its configuration: ``heads`` in ``conf/data/*.yaml``.

Keras is imported inside the methods that build with it; everything else needs NumPy and scikit-learn at most.
"""

from typing import Annotated

from pydantic import SerializeAsAny

from manyheads import extensions
from manyheads.heads.base import MISSING, Head, HeadReport, Labels, LabelStatistics, Outputs, Scale, Term
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

HEADS: dict[str, type[Head]] = extensions.built_in_classes(__name__, Head, "kind")

AnyHead = Annotated[SerializeAsAny[Head], extensions.member_of(HEADS, Head, "kind")]
