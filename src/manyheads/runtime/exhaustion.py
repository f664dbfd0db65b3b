"""Memory, disk and open files that have run out: the line that says so, and what helps."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from manyheads.errors import MachineError

REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free the disk, or name another place"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files, such as `ulimit -n 4096`"),
    errno.ENOMEM: "free memory, or raise the limit of it",
    errno.EAGAIN: "allow more processes, such as `ulimit -u 4096`",
    errno.EACCES: "allow this user to read and write it",
    errno.EROFS: "mount it for writing, or name another place",
    errno.EIO: "the disk may be failing: look at the system's log, and use another disk",
}
"""What helps against an error of the system, by its number."""

LESS_MEMORY = "free memory, or lower train.batch_size or the size of the images (inputs.<input>.image_size)"


def remedy(error: OSError) -> str:
    """Return what helps against an error of the system, such as ``: free the disk``, or an empty text."""
    text = REMEDIES.get(error.errno or 0)
    return f": {text}" if text else ""


def raise_if_exhausted(path: Path, error: Exception) -> None:
    """Raise an error of reading a file whose cause is the machine, so that a good file is not called damaged.

    Args:
        path: The file.
        error: The error of reading it.

    Raises:
        MachineError: The system refused to read the file.
        Exception: The error itself, if it is one of too little memory.
    """
    if _is_of_memory(error):
        raise error
    if isinstance(error, OSError) and error.errno in REMEDIES:
        raise MachineError(f"cannot read {path}: {error.strerror or error}{remedy(error)}") from error


@contextmanager
def enough_memory(helps: str = LESS_MEMORY) -> Iterator[None]:
    """Raise it as one line if the body runs out of memory, of the processor or of a GPU.

    Args:
        helps: The remedy.

    Raises:
        MachineError: The body ran out of memory.
    """
    try:
        yield
    except Exception as error:
        if not _is_of_memory(error):
            raise
        what = re.search(r"(?:OOM when|Unable to) allocat[^\n]{0,120}", str(error))
        raise MachineError(f"out of memory{f' ({what[0]})' if what else ''}: {helps}") from error


def _is_of_memory(error: Exception) -> bool:
    # TensorFlow's error is known by its name, because its import takes seconds.
    return isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"
