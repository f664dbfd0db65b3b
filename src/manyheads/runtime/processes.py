"""Processes of this machine."""

import psutil


def is_alive(number: int) -> bool:
    """Return whether a process runs; one that ended and whose parent has not asked for its status does not."""
    try:
        return bool(psutil.Process(number).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # of another user, on some systems
        return True
