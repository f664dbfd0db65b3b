"""A proposal: heads and inputs with their settings, what each column became and why, and what is unsure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Part(NamedTuple):
    """A head or an input of the proposal.

    Attributes:
        settings: Its settings, as in ``data.heads`` or ``inputs``.
        columns: The columns of the table that it reads, one or several; none if the data is no table.
        comment: A remark for the file, or an empty text.
    """

    settings: dict[str, Any]
    columns: tuple[str, ...] = ()
    comment: str = ""


class Finding(NamedTuple):
    """A line of what was found: a column or another part of the data, what it became, and the evidence."""

    what: str
    becomes: str
    evidence: str


@dataclass
class Proposal:
    """What ``new`` proposes for some data.

    Attributes:
        dataset: Name of the dataset, ``data.name``.
        summary: The data in a few words, such as "a table of 6,497 rows".
        samples: Number of samples.
        heads: The heads by name.
        inputs: The inputs by name.
        findings: What each column became.
        doubts: What was unsure, each with the way to change it.
        split: Option of the group ``split``, and the reason if it is not ``clean``.
        photographs: Whether the images are photographs whose labels do not depend on places in them.
        max_reject_fraction: ``data.max_reject_fraction``.
        train: Settings of the training that depend on the data.
    """

    dataset: str
    summary: str
    samples: int
    heads: dict[str, Part]
    inputs: dict[str, Part]
    findings: list[Finding] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    split: str = "clean"
    split_comment: str = ""
    photographs: bool = False
    max_reject_fraction: float = 0.01
    train: dict[str, Any] = field(default_factory=dict)
    train_comment: str = ""

    def columns(self) -> Mapping[str, str | tuple[str, ...]]:
        """Return ``data.columns``: those of heads and inputs whose name alone does not say them."""
        found: dict[str, str | tuple[str, ...]] = {}
        for name, part in (self.inputs | self.heads).items():
            if len(part.columns) > 1:
                found[name] = part.columns
            elif part.columns and part.columns[0] != name:
                found[name] = part.columns[0]
        return found
