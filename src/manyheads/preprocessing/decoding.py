"""Samples decoded in processes of their own, in bounded memory and in order: into an array on disk, or handed over.

A decoder is C code that meets files from anywhere: a sample that ends or hangs its process costs that sample alone.
Threads would not do instead: a small image is decoded in less time than Python's lock takes to go round.
"""

import errno
import faulthandler
import functools
import hashlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

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
"""So many dead workers are the machine's fault and not the samples'."""


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
        MachineError: Workers die all the time.
    """
    timed = functools.partial(_in_time, work, timeout)
    workers = available_cores()
    waiting = iter(samples)
    pending: deque[tuple[list[Raw], Future[list[T]]]] = deque()
    lost = 0
    pool = _start(workers)
    try:
        while True:
            while len(pending) < CHUNKS_IN_FLIGHT * workers and (chunk := list(islice(waiting, CHUNK))):
                pending.append((chunk, _submit(pool, timed, chunk)))
            if not pending:
                return
            chunk, future = pending.popleft()
            try:
                yield from future.result()
            except BrokenProcessPool:
                # Nobody knows whose sample it was, so all that was under way is done again, one by one.
                suspects = [sample for each in (chunk, *(other for other, _ in pending)) for sample in each]
                pending.clear()
                pool.shutdown()
                for outcome in _one_by_one(suspects, timed, timeout):
                    lost += isinstance(outcome, Refused) and outcome.code in ("DECODE_CRASHED", "DECODE_TIMEOUT")
                    if lost > MAX_LOST_WORKERS:
                        raise MachineError(
                            f"{lost} decoding processes died, more than samples can account for: "
                            "free memory, or install Pillow anew"
                        ) from None
                    yield outcome
                pool = _start(workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _one_by_one(suspects: Iterable[Raw], timed: Work[T], timeout: float) -> Iterator[T | Refused]:
    pool = _start(1)
    try:
        for sample in suspects:
            began = time.monotonic()
            try:
                yield from _submit(pool, timed, [sample]).result()
            except BrokenProcessPool:
                if time.monotonic() - began < timeout:
                    yield Refused(sample.row, "DECODE_CRASHED", "the decoder's process died of it")
                else:
                    yield Refused(sample.row, "DECODE_TIMEOUT", f"not decoded after {timeout:g} s")
                pool.shutdown()
                pool = _start(1)
    finally:
        pool.shutdown(cancel_futures=True)


def _start(workers: int) -> ProcessPoolExecutor:
    # Not "fork": this process has threads, of the linear algebra library for one.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _prepare_worker)


def _submit(pool: ProcessPoolExecutor, timed: Work[T], chunk: Sequence[Raw]) -> Future[list[T]]:
    try:
        return pool.submit(timed, chunk)
    except BrokenProcessPool as error:
        future: Future[list[T]] = Future()
        future.set_exception(error)
        return future


def _prepare_worker() -> None:
    # Ctrl-C reaches every process of a terminal; the parent ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    # A pool's workers otherwise wait for ever for a parent that was killed.
    if parent := multiprocessing.parent_process():
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _in_time(work: Work[T], timeout: float, chunk: Sequence[Raw]) -> list[T]:
    with Path(os.devnull).open("w") as nowhere:
        faulthandler.dump_traceback_later(timeout, exit=True, file=nowhere)
        try:
            return work(chunk)
        finally:
            faulthandler.cancel_dump_traceback_later()
