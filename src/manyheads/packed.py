"""The packed inputs: one array on disk for each, filled by worker processes, read through a memory map.

A decoder is C code that meets files from anywhere. It runs in processes of its own, so that an image that
ends or hangs one costs that image alone.
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
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from manyheads.errors import IntegrityError, MachineError, Unreadable
from manyheads.inputs import Input
from manyheads.machine import available_cores

CHUNK = 128
"""Samples that a worker gets at once."""

CHUNKS_IN_FLIGHT = 3
"""Chunks for each worker that are under way or done and not yet taken: what bounds the memory."""

TIMEOUT_SECONDS = 120.0
"""How long a chunk, and later a single sample of it, may take: a thousand times what it does take."""

MAX_LOST_WORKERS = 20
"""So many dead workers are the machine's fault and not the samples'."""


class Raw(NamedTuple):
    """The bytes of the sample that belongs into a row of the array."""

    row: int
    data: bytes


class Packed(NamedTuple):
    """A row that was filled: the SHA-256 of the bytes, the input's fingerprint, and its note."""

    row: int
    sha256: str
    fingerprint: npt.NDArray[np.uint8] | None
    note: str


class Refused(NamedTuple):
    """A row that stays zero, with a stable code and a reason."""

    row: int
    code: str
    reason: str


Work = Callable[[Sequence[Raw]], list[Packed | Refused]]


def open_packed(path: Path, kind: Input) -> npt.NDArray[Any]:
    """Map a packed input into memory, read-only: nothing is read before it is used.

    Args:
        path: The ``.npy`` file that pack wrote.
        kind: What it was packed as.

    Returns:
        The samples, shape (n, ``*kind.shape``), of ``kind.dtype``.

    Raises:
        IntegrityError: The file is missing, damaged, or holds something else.
    """
    remedy = "make it anew with `python -m manyheads pack` or `dvc repro pack`"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing: {remedy}") from None
    except (OSError, ValueError, EOFError) as error:
        raise IntegrityError(f"{path} is damaged ({' '.join(str(error).split())[:200]}): {remedy}") from error
    if not isinstance(array, np.ndarray):
        raise IntegrityError(f"{path} is an archive of arrays, not one array: {remedy}")
    if array.dtype != kind.dtype or array.shape[1:] != kind.shape:
        wanted = ", ".join(map(str, ("n", *kind.shape)))
        found = f"{array.dtype} of shape {array.shape}"
        raise IntegrityError(f"{path} holds {found}, not {kind.dtype} of shape ({wanted}): {remedy}")
    return array


def encode_into(
    path: Path, count: int, raw: Iterable[Raw], kind: Input, timeout: float = TIMEOUT_SECONDS
) -> Generator[Packed | Refused]:
    """Make an array of ``count`` samples at ``path`` and fill it, in as many processes as there are cores.

    The workers write the values, so that only the bytes go to them and only findings come back. Memory is
    bounded by the chunks in flight. Close the generator to end the workers early.

    Args:
        path: The ``.npy`` file, of shape (count, ``*kind.shape``). Other rows are zero.
        count: Number of rows.
        raw: Row and bytes of each sample.
        kind: How the bytes are read; other processes must be able to import it.
        timeout: Seconds that a chunk, and a sample that is tried alone, may take.

    Yields:
        What became of each sample. Beside the input's own codes there are ``DECODE_CRASHED`` and
        ``DECODE_TIMEOUT`` for a sample that ends its process, or takes too long, also when it is tried alone.

    Raises:
        MachineError: Workers die all the time.
        OSError: The array cannot be written.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=kind.dtype, shape=(count, *kind.shape))
    work = functools.partial(_encode_chunk, path, array.offset, kind, timeout)
    del array
    workers = available_cores()
    waiting = iter(raw)
    pending: deque[tuple[list[Raw], Future[list[Packed | Refused]]]] = deque()
    lost = 0
    pool = _start(workers)
    try:
        while True:
            while len(pending) < CHUNKS_IN_FLIGHT * workers and (chunk := list(islice(waiting, CHUNK))):
                pending.append((chunk, _submit(pool, work, chunk)))
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
                for outcome in _one_by_one(suspects, work, timeout):
                    lost += isinstance(outcome, Refused) and outcome.code in (
                        "DECODE_CRASHED",
                        "DECODE_TIMEOUT",
                    )
                    if lost > MAX_LOST_WORKERS:
                        raise MachineError(
                            f"{lost} decoding processes died, more than samples can account for: "
                            "free memory, or install Pillow anew"
                        ) from None
                    yield outcome
                pool = _start(workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _one_by_one(suspects: Iterable[Raw], work: Work, timeout: float) -> Iterator[Packed | Refused]:
    pool = _start(1)
    try:
        for sample in suspects:
            began = time.monotonic()
            try:
                yield from _submit(pool, work, [sample]).result()
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


def _submit(pool: ProcessPoolExecutor, work: Work, chunk: Sequence[Raw]) -> Future[list[Packed | Refused]]:
    try:
        return pool.submit(work, chunk)
    except BrokenProcessPool as error:
        future: Future[list[Packed | Refused]] = Future()
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


def _encode_chunk(path: Path, offset: int, kind: Input, timeout: float, chunk: Sequence[Raw]) -> list[Packed | Refused]:
    # Written through a file and not a memory map: a full disk is then an error and not a dead process.
    with path.open("r+b", buffering=0) as file, Path(os.devnull).open("w") as nowhere:
        faulthandler.dump_traceback_later(timeout, exit=True, file=nowhere)
        try:
            return [_encode_one(file, offset, kind, sample) for sample in chunk]
        finally:
            faulthandler.cancel_dump_traceback_later()


def _encode_one(file: FileIO, offset: int, kind: Input, sample: Raw) -> Packed | Refused:
    try:
        values, note = kind.encode(sample.data)
    except Unreadable as refusal:
        return Refused(sample.row, refusal.code, refusal.reason)
    file.seek(offset + sample.row * values.nbytes)
    if file.write(values.data) != values.nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return Packed(sample.row, hashlib.sha256(sample.data).hexdigest(), kind.fingerprint(values), note)
