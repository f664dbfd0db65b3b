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


def undocumented(form: str) -> Documentation:
    """Return the documentation of a user's own data, of which only the form is known.

    Args:
        form: What the data is, such as "A table with one row per sample".
    """
    return Documentation(
        origin=f"{form}, provided by the user. Where it comes from and how it was made is not documented.",
        labels="Not documented. They are read as the data has them.",
        terms="Not documented. Ask whoever provided the data before it is passed on.",
        citation="Not documented.",
        intended="Not documented.",
        out_of_scope="decisions about people, unless somebody has documented and examined the data.",
        ethics="Not examined.",
        caveats="How the samples were chosen is not documented, so the metrics hold for samples like these alone.",
    )
