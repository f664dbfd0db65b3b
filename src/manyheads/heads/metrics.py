"""What a number that judges a head is, so that nothing else has to know metrics by their names."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, NonNegativeInt


class Metric(BaseModel):
    """A number that judges predictions of a head.

    Attributes:
        name: What it is called in tables, such as ``mae``.
        label: What it is called for people, such as ``MAE``.
        greater_is_better: Whether more of it is better.
        digits: Digits after the point that it is shown with.
        judged: Whether a difference between two models is better or worse. A bias is best at 0 and an interval's
            coverage at what it promises: these are shown alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    label: str
    greater_is_better: bool = True
    digits: NonNegativeInt = 3
    judged: bool = True
