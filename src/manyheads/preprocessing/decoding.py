"""Samples decoded in processes of their own, in bounded memory and in order: into an array on disk, or handed over.

A decoder is C code that meets files from anywhere: a sample that ends or hangs its process costs that sample alone.
Threads would not do instead: a small image is decoded in less time than Python's lock takes to go round. ``pebble``
says which chunk ended its process or took too long; ``concurrent.futures`` gives up the whole pool.
"""

import errno
import functools
import hashlib
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from manyheads.errors import MachineError, Unreadable
from manyheads.inputs import Input
from manyheads.inputs.base import Array
from manyheads.runtime.hardware import available_cores

CHUNK = 128
"""Samples that a worker gets at once."""

CHUNKS_IN_FLIGHT = 3
"""Chunks for each worker that are under way or done and not yet taken: what bounds the memory."""

TIMEOUT_SECONDS = 120.0
"""How long a chunk, and later a single sample of it, may take: a thousand times what it does take."""

MAX_LOST_WORKERS = 20
"""Samples that may end or hang their process; more are the machine's fault and not the samples'."""


class Raw(NamedTuple):
    """A sample that is to be decoded: its row, and its bytes as the work takes them."""

    row: int
    data: Any


class Refused(NamedTuple):
    """A sample that cannot be decoded, with a stable code and a reason."""

    row: int
    code: str
    reason: str


class Packed(NamedTuple):
    """A row that was filled: the SHA-256 of the bytes, the input's fingerprint, and its note."""

    row: int
    sha256: str
    fingerprint: npt.NDArray[np.uint8] | None
    note: str


class Sample(NamedTuple):
    """A sample that was decoded: its row, and the values of each input by name."""

    row: int
    inputs: dict[str, Array]


T = TypeVar("T")
Work = Callable[[Sequence[Raw]], list[T]]


def decode(kinds: Mapping[str, Input], chunk: Sequence[Raw]) -> list[Sample | Refused]:
    """Decode every input of each sample.

    Args:
        kinds: What the inputs are, by name.
        chunk: Samples whose data are the bytes of each input by name, or the OSError of reading them.
    """
    outcomes: list[Sample | Refused] = []
    for row, data in chunk:
        try:
            if isinstance(data, OSError):
                raise data
            outcomes.append(Sample(row, {name: kind.encode(data[name])[0] for name, kind in kinds.items()}))
        except Unreadable as problem:
            outcomes.append(Refused(row, problem.code, problem.reason))
        except OSError as problem:
            outcomes.append(Refused(row, "IO_ERROR", problem.strerror or str(problem)))
    return outcomes


def encode_into(
    path: Path, count: int, raw: Iterable[Raw], kind: Input, timeout: float = TIMEOUT_SECONDS
) -> Generator[Packed | Refused]:
    """Make an array of ``count`` samples at ``path`` and fill it; see ``in_processes``.

    The workers write the values, so that only the bytes go to them and only findings come back.

    Args:
        path: The ``.npy`` file, of shape (count, ``*kind.shape``). Other rows are zero.
        count: Number of rows.
        raw: Row and bytes of each sample.
        kind: How the bytes are read; other processes must be able to import it.
        timeout: Seconds that a chunk, and a sample that is tried alone, may take.

    Yields:
        What became of each sample; the row of one that is refused stays zero.

    Raises:
        MachineError: Workers die all the time.
        OSError: The array cannot be written.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=kind.dtype, shape=(count, *kind.shape))
    work = functools.partial(_encode_chunk, path, array.offset, kind)
    del array
    yield from in_processes(raw, work, timeout)


def _encode_chunk(path: Path, offset: int, kind: Input, chunk: Sequence[Raw]) -> list[Packed | Refused]:
    # Written through a file and not a memory map: a full disk is then an error and not a dead process.
    with path.open("r+b", buffering=0) as file:
        return [_encode_one(file, offset, kind, sample) for sample in chunk]


def _encode_one(file: FileIO, offset: int, kind: Input, sample: Raw) -> Packed | Refused:
    try:
        values, note = kind.encode(sample.data)
    except Unreadable as refusal:
        return Refused(sample.row, refusal.code, refusal.reason)
    file.seek(offset + sample.row * values.nbytes)
    if file.write(values.data) != values.nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return Packed(sample.row, hashlib.sha256(sample.data).hexdigest(), kind.fingerprint(values), note)


def in_processes(samples: Iterable[Raw], work: Work[T], timeout: float = TIMEOUT_SECONDS) -> Generator[T | Refused]:
    """Do work on samples, in as many processes as there are cores.

    Memory is bounded by the chunks in flight. Close the generator to end the workers early.

    Args:
        samples: Rows and bytes.
        work: Takes some samples and returns an outcome for each; other processes must be able to import it.
        timeout: Seconds that a chunk, and a sample that is tried alone, may take.

    Yields:
        The outcomes in the order of the samples: those of the work, and ``DECODE_CRASHED`` or ``DECODE_TIMEOUT`` for a
        sample that ends its process, or takes too long, also when it is tried alone.

    Raises:
        MachineError: Workers die all the time, or cannot start.
    """
    workers = available_cores()
    waiting = iter(samples)
    pending: deque[tuple[list[Raw], ProcessFuture[list[T]]]] = deque()
    lost = 0
    # Not "fork": this process has threads, of the linear algebra library for one.
    pool = ProcessPool(workers, initializer=_end_with_parent, context=multiprocessing.get_context("spawn"))
    try:
        while True:
            while len(pending) < CHUNKS_IN_FLIGHT * workers and (chunk := list(islice(waiting, CHUNK))):
                pending.append((chunk, pool.schedule(work, (chunk,), timeout=timeout)))
            if not pending:
                return
            chunk, future = pending.popleft()
            try:
                yield from future.result()
                continue
            except (ProcessExpired, TimeoutError):
                pass  # nobody knows which sample it was, so each is tried alone
            for sample in chunk:
                try:
                    yield from pool.schedule(work, ([sample],), timeout=timeout).result()
                    continue
                except ProcessExpired:
                    refused = Refused(sample.row, "DECODE_CRASHED", "the decoder's process died of it")
                except TimeoutError:
                    refused = Refused(sample.row, "DECODE_TIMEOUT", f"not decoded after {timeout:g} s")
                lost += 1
                if lost > MAX_LOST_WORKERS:
                    raise MachineError(
                        f"{lost} decoding processes died, more than samples can account for: "
                        "free memory, or install Pillow anew"
                    )
                yield refused
    except BrokenProcessPool as error:
        raise MachineError(
            "the decoding processes end before they begin: free memory, or run it from a script that begins its work "
            'under `if __name__ == "__main__":`'
        ) from error
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


def _end_with_parent() -> None:
    """End this worker when its parent is killed, also while it decodes."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    if parent := multiprocessing.parent_process():
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
