"""Head kinds: what one output of the model is, from its label space to its report; one file for each kind.

Everything that differs between a regression and a classification lives here. The model, the loss, the report and the
predictions loop over heads and know no kind, so a new kind is one more file and one more member of ``AnyHead``. A
kind's fields are its configuration: ``heads`` in ``conf/data/*.yaml``.

Keras is imported inside the methods that build with it; everything else needs NumPy and scikit-learn at most.
"""

from typing import Annotated

from pydantic import Field

from manyheads.heads.base import Head, HeadReport, Labels, LabelStatistics, Outputs, Term
from manyheads.heads.categorical import Categorical
from manyheads.heads.gains import gains, score, trivial_baselines
from manyheads.heads.regression import Regression

__all__ = [
    "AnyHead",
    "Categorical",
    "Head",
    "HeadReport",
    "LabelStatistics",
    "Labels",
    "Outputs",
    "Regression",
    "Term",
    "gains",
    "score",
    "trivial_baselines",
]

AnyHead = Annotated[Regression | Categorical, Field(discriminator="kind")]
