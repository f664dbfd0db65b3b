"""What the model card and the data card say about a dataset, beside numbers."""

from collections.abc import Mapping
from typing import NamedTuple


class Documentation(NamedTuple):
    """A dataset in words, Markdown.

    Attributes:
        origin: What it is, who made it and why.
        labels: What the labels mean and where they come from.
        terms: Under which terms it may be used.
        citation: How to cite it.
        intended: What a model of it is for.
        out_of_scope: What it must not be used for.
        ethics: What harm it may do.
        caveats: Known limits.
        published: Figures that others reported, such as ``race/accuracy``, for comparison.
        published_by: Who reported them, in a few words.
        published_bins: Into which bins they count a label, by head; each number begins one.
    """

    origin: str
    labels: str
    terms: str
    citation: str
    intended: str
    out_of_scope: str
    ethics: str
    caveats: str
    published: Mapping[str, float] = {}
    published_by: str = ""
    published_bins: Mapping[str, tuple[int, ...]] = {}


def synthetic(purpose: str, labels: str) -> Documentation:
    """Return what holds for every dataset that this project makes itself.

    Args:
        purpose: What it is for, "to try ...".
        labels: What the labels are.
    """
    return Documentation(
        origin=f"Made by this project from a fixed seed, {purpose}. It is about no person.",
        labels=labels,
        terms="Part of this project, under its license.",
        citation="Not needed.",
        intended="Trying, testing and showing the pipeline.",
        out_of_scope="anything that is about people.",
        ethics="Nobody is depicted or quoted; no harm is known.",
        caveats="How well a model does on synthetic data says nothing of the world.",
    )
