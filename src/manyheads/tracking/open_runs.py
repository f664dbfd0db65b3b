"""Notes of the runs that processes have open, so that the run of a process that was killed does not stay RUNNING.

A process holds the lock of its note, and the system releases the lock when the process ends, however it ends.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from manyheads.paths import main_project
from manyheads.tracking.store import attempt, client_of, is_active, tracking_uri


@contextmanager
def noted(root: Path, run_id: str) -> Iterator[Callable[[], None]]:
    """Note that this process has a run open, while the body runs.

    Args:
        root: The project's root folder.
        run_id: The run; nothing is noted if it is an empty text.

    Yields:
        Deletes the note. The note of a run whose end the store does not take stays, so that the next run ends it.
    """
    import filelock

    if not run_id:
        yield _nothing
        return
    note = _folder(root) / f"{run_id}.lock"
    lock = filelock.FileLock(note)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except (filelock.Timeout, OSError):  # the caller in this process has noted it, or the folder is read-only
        yield _nothing
        return
    try:
        yield functools.partial(note.unlink, missing_ok=True)
    finally:
        lock.release()


def _nothing() -> None:
    """Stand for the deletion of a note that this process does not hold."""


def end_dead_runs(root: Path) -> None:
    """End the runs whose process died as ``KILLED``."""
    import filelock

    for note in _folder(root).glob("*.lock"):
        try:
            with filelock.FileLock(note, timeout=0):
                if end_dead_run(root, note.stem, "KILLED"):
                    note.unlink(missing_ok=True)
        except (filelock.Timeout, OSError):
            continue  # its process runs


def end_dead_run(root: Path, run_id: str, status: str) -> bool:
    """End a run whose process died; a run that has ended keeps its status.

    Args:
        root: The project's root folder.
        run_id: The run; nothing happens if it is an empty text.
        status: ``FAILED`` or ``KILLED``.

    Returns:
        Whether the store answered.
    """

    def action() -> None:
        client = client_of(tracking_uri(root))
        if is_active(client, run_id) and client.get_run(run_id).info.status == "RUNNING":
            client.set_terminated(run_id, status)

    return not run_id or attempt("the end of a run", action)


def _folder(root: Path) -> Path:
    return main_project(root) / ".cache/runs"
