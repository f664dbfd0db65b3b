"""Progress of long work on standard error: a bar on a terminal, a log line every 30 seconds elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, TypeVar

from manyheads.runtime import printing

if TYPE_CHECKING:
    from rich.progress import Progress

Item = TypeVar("Item")

logger = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 30.0


def progress_bar(unit: str = "samples") -> Progress:
    """Return a progress bar with counts, elapsed and remaining time; it is disabled without a terminal.

    Args:
        unit: What is counted, in the plural.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = printing.console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_interactive,
    )


def track(items: Iterable[Item], description: str, total: int | None = None, unit: str = "samples") -> Iterator[Item]:
    """Yield ``items`` and show the progress.

    Args:
        items: The items of the work.
        description: Description of the work in a few words.
        total: Number of items, if ``items`` has no length; None if it is unknown.
        unit: What the items are, in the plural.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress_bar(unit) as bar:
        if bar.disable:
            yield from _track_in_log(items, description, total, unit)
        else:
            yield from bar.track(items, total=total, description=description)


def _track_in_log(items: Iterable[Item], description: str, total: int | None, unit: str) -> Iterator[Item]:
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - last >= LOG_EVERY_SECONDS:
            last = now
            counted = f"{done:,} of {total:,}" if total else f"{done:,}"
            remaining = f", {(now - start) / done * (total - done):.0f} s left" if total else ""
            logger.info("%s: %s %s%s", description, counted, unit, remaining)
        yield item
