"""Rejected samples, and the limit on their share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from manyheads.errors import DataError
from manyheads.runtime.printing import printable

JUNK = "JUNK"
"""Code of files that an operating system left. They are not samples and do not count as rejected."""


class Reject(NamedTuple):
    """A rejected sample: its path in the raw data, a stable code, and a sentence for people."""

    path: str
    code: str
    reason: str


def check_reject_share(source: str, accepted: int, rejects: Sequence[Reject], limit: float) -> None:
    """Raise an error if too large a share of the samples is rejected.

    Args:
        source: Name of the data, for messages.
        accepted: Number of accepted samples.
        rejects: The rejected samples; junk files do not count.
        limit: ``data.max_reject_fraction``.

    Raises:
        DataError: No sample is accepted, or a larger share than ``limit`` is rejected.
    """
    counts = Counter(reject.code for reject in rejects if reject.code != JUNK)
    total = accepted + counts.total()
    if not total:
        raise DataError(
            f"{source} holds no samples, only junk of operating systems: put the data there or set data.path"
        )
    if accepted and counts.total() <= limit * total:
        return
    examples = {reject.code: reject for reject in reversed(rejects)}
    codes = "; ".join(
        f"{count} {code}, such as {printable(examples[code].path)!r}: {examples[code].reason.removesuffix('.')}"
        for code, count in sorted(counts.items())
    )
    raise DataError(
        f"{source}: {counts.total()} of {total} samples are rejected ({codes}), more than "
        f"data.max_reject_fraction={limit:g} allows: fix or remove them, or raise it; nothing was written"
    )


def counts_text(counts: Counter[str]) -> str:
    """Return counts by name, sorted by name, such as ``3 NAME_CLASH, 1 NAME_PATTERN``, or ``none``."""
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
