"""The description of a metric, so that no other code depends on the names of metrics."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, NonNegativeInt


class Metric(BaseModel):
    """A metric of a head's predictions: its name, its direction, and how it is shown.

    Common labels are in ``reporting.labels``, which training does not depend on. A change of a label there trains no
    model again.

    Attributes:
        name: Name in tables, such as ``mae``.
        label: Name for people, such as ``mean absolute error``; None takes it from ``reporting.labels``.
        greater_is_better: Whether greater values are better.
        digits: Number of decimal places; None takes it from ``reporting.labels``.
        judged: Whether a comparison of two models calls the difference better or worse. It is false for a bias, whose
            best value is 0, and for the coverage of an interval, whose best value is its nominal probability.
        headline: Whether the first table of a report shows the metric. All other tables show it in any case.
        of_class: Whether it describes a single class, such as F1 of one class. A head may have many classes, so MLflow,
            which shows every metric of a run beside the others, does not get it.
        by_group: Whether the metric is comparable between groups of samples. The main metric of a head always is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    label: str | None = None
    greater_is_better: bool = True
    digits: NonNegativeInt | None = None
    judged: bool = True
    headline: bool = True
    of_class: bool = False
    by_group: bool = False
