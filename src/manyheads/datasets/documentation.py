"""Texts about a dataset for the model card and the data card."""

from collections.abc import Mapping
from typing import NamedTuple


class Documentation(NamedTuple):
    """A description of a dataset in Markdown.

    Attributes:
        origin: What the dataset is, who made it and why.
        labels: What the labels mean and where they come from.
        terms: Terms of use.
        citation: How to cite the dataset.
        intended: Intended uses of a model of this data.
        out_of_scope: Uses that are ruled out.
        ethics: Possible harm.
        caveats: Known limits.
        published: Published metrics for comparison, by names such as ``race/accuracy``.
        published_by: Who published them, in a few words.
        published_bins: Lower edges of the bins of a published classification of labels, by head.
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
    """Return the documentation of a synthetic dataset.

    Args:
        purpose: Purpose of the dataset, such as "to try ...".
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
