"""Locks between processes that record their holder."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from manyheads.errors import MachineError
from manyheads.runtime.credentials import masked
from manyheads.runtime.exhaustion import remedy


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold a lock, and wait for it if another process holds it; the system releases it when the process ends.

    Args:
        path: The lock file; its folder is created if it is missing.

    Raises:
        MachineError: The file cannot be written.
    """
    import filelock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        lock.acquire()
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror or error}{remedy(error)}") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def exclusive_lock(path: Path, doing: str) -> Iterator[None]:
    """Hold a lock without waiting for it; the system releases it when the process ends.

    Args:
        path: The lock file; its folder is created if it is missing. It names the holder while the lock is held.
        doing: Activity of the holder, for the message "another process ...".

    Raises:
        MachineError: Another process holds the lock; the message names the process, its start and its command. Or the
            file cannot be written.
    """
    import filelock

    lock = filelock.FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        holder = path.read_text(encoding="utf-8", errors="replace").strip() or "it did not say which"
        raise MachineError(f"another process {doing} ({holder}): wait for it, or stop it; its lock is {path}") from None
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror or error}{remedy(error)}") from error
    try:
        program, *arguments = sys.orig_argv
        command = masked(shlex.join([Path(program).name, *arguments]))
        where = f"process {os.getpid()} on {platform.node()}, since {datetime.now():%Y-%m-%d %H:%M:%S}"
        try:
            path.write_text(f"{where}: {command}\n", encoding="utf-8")
        except OSError as error:
            raise MachineError(f"cannot write {path}: {error.strerror or error}{remedy(error)}") from error
        yield
    finally:
        lock.release()
