"""What a number that judges a head is, so that nothing else has to know metrics by their names."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, NonNegativeInt


class Metric(BaseModel):
    """A number that judges predictions of a head.

    The wording stands in ``reporting.labels``, which training does not read, so an edit of a label trains no model
    again.

    Attributes:
        name: What it is called in tables, such as ``mae``.
        label: What it is called for people, such as ``mean absolute error``; None: ``reporting.labels`` says it.
        greater_is_better: Whether more of it is better.
        digits: Digits after the point that it is shown with; None: ``reporting.labels`` says it.
        judged: Whether a difference between two models is better or worse. A bias is best at 0 and an interval's
            coverage at what it promises: these are shown alone.
        headline: Whether the first table of a report shows it. Every other table shows it anyway.
        by_group: Whether it means the same in every group of samples, so that groups can be compared by it. The main
            metric of a head always is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    label: str | None = None
    greater_is_better: bool = True
    digits: NonNegativeInt | None = None
    judged: bool = True
    headline: bool = True
    by_group: bool = False
