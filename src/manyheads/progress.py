"""Progress of long work on standard error: a bar with an ETA on a terminal, a line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")

logger = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 30.0


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yield ``items`` and show how far the work is.

    Args:
        items: What is worked through.
        description: What is done, in a few words.
        total: How many items there are, if ``items`` has no length; None when nobody knows.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from _track_on_terminal(items, description, total)
    else:
        yield from _track_in_log(items, description, total)


def _track_on_terminal(items: Iterable[Item], description: str, total: int | None) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total, description=description)


def _track_in_log(items: Iterable[Item], description: str, total: int | None) -> Iterator[Item]:
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - last >= LOG_EVERY_SECONDS:
            last = now
            remaining = f" of {total}, {(now - start) / done * (total - done):.0f} s left" if total else ""
            logger.info("%s: %d%s", description, done, remaining)
        yield item
