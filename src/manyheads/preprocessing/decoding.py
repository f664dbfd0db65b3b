"""Decoding of samples in worker processes, in order and in bounded memory.

A decoder is C code that reads untrusted files. If a sample crashes or hangs its process, only that sample is lost.
Threads are no alternative: the decoding of a small image is too short to run in parallel under Python's global lock.
``pebble`` reports the chunk that crashed or timed out, whereas ``concurrent.futures`` gives up the whole pool.
"""

import errno
import functools
import hashlib
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from io import FileIO
from itertools import chain, islice
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
"""Number of samples that a worker gets at once."""

CHUNKS_IN_FLIGHT = 3
"""Largest number of scheduled or finished chunks per worker; it bounds the memory."""

CHUNK_BYTES = 4 * 2**20
"""Number of encoded bytes from which a chunk gets no further sample."""

BYTES_IN_FLIGHT = 128 * 2**20
"""Number of encoded bytes in scheduled or finished chunks from which no further chunk is scheduled."""

TIMEOUT_SECONDS = 120.0
"""Longest time for a chunk, or for a single sample that is retried; about a thousand times the usual time."""

MAX_LOST_WORKERS = 20
"""Largest number of samples that may crash or hang their process; more point to a fault of the machine."""


class Raw(NamedTuple):
    """An encoded sample: its row, and its bytes in the form that the work takes."""

    row: int
    data: Any


class Refused(NamedTuple):
    """A sample that cannot be decoded, with a stable code and a reason."""

    row: int
    code: str
    reason: str


class Packed(NamedTuple):
    """A packed sample: its row, the SHA-256 of its bytes, its fingerprint, a note on any conversion, and properties."""

    row: int
    sha256: str
    fingerprint: npt.NDArray[np.uint8] | None
    note: str
    properties: Mapping[str, float]


class Sample(NamedTuple):
    """A decoded sample: its row, and for each input by name its values and its properties, see ``Encoded``."""

    row: int
    inputs: dict[str, Array]
    properties: dict[str, Mapping[str, float]]


T = TypeVar("T")
Work = Callable[[Sequence[Raw]], list[T]]


def decode(kinds: Mapping[str, Input], chunk: Sequence[Raw]) -> list[Sample | Refused]:
    """Return each sample with its inputs decoded, or its refusal.

    Args:
        kinds: The inputs by name.
        chunk: Samples whose data are the bytes of each input by name, or the OSError of reading them.
    """
    outcomes: list[Sample | Refused] = []
    for row, data in chunk:
        try:
            if isinstance(data, OSError):
                raise data
            encoded = {name: kind.encode(data[name]) for name, kind in kinds.items()}
            outcomes.append(
                Sample(
                    row,
                    {name: each.values for name, each in encoded.items()},
                    {name: dict(each.properties) for name, each in encoded.items()},
                )
            )
        except Unreadable as problem:
            outcomes.append(Refused(row, problem.code, problem.reason))
        except OSError as problem:
            outcomes.append(Refused(row, "IO_ERROR", problem.strerror or str(problem)))
    return outcomes


def encode_into(
    path: Path, count: int, raw: Iterable[Raw], kind: Input, timeout: float = TIMEOUT_SECONDS
) -> Generator[Packed | Refused]:
    """Create an array of ``count`` samples at ``path`` and fill it in worker processes; see ``in_processes``.

    The workers write the values, so only the encoded bytes are sent to them.

    Args:
        path: The ``.npy`` file, shape (count, ``*kind.shape``), of ``kind.dtype``. Rows without a sample are zero.
        count: Number of rows.
        raw: Row and bytes of each sample.
        kind: The input that reads the bytes; worker processes must be able to import its class.
        timeout: Longest time in seconds for a chunk, or for a single sample that is retried.

    Yields:
        The outcome of each sample; the row of a refused sample is zero.

    Raises:
        MachineError: Too many workers crash.
        OSError: The array cannot be written.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=kind.dtype, shape=(count, *kind.shape))
    work = functools.partial(_encode_chunk, path, array.offset, kind)
    del array
    yield from in_processes(raw, work, timeout)


def _encode_chunk(path: Path, offset: int, kind: Input, chunk: Sequence[Raw]) -> list[Packed | Refused]:
    # On a full disk, writing to a file raises an error; writing to a memory map would crash the process.
    with path.open("r+b", buffering=0) as file:
        return [_encode_one(file, offset, kind, sample) for sample in chunk]


def _encode_one(file: FileIO, offset: int, kind: Input, sample: Raw) -> Packed | Refused:
    try:
        values, note, properties = kind.encode(sample.data)
    except Unreadable as refusal:
        return Refused(sample.row, refusal.code, refusal.reason)
    file.seek(offset + sample.row * values.nbytes)
    if file.write(values.data) != values.nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    digest = hashlib.sha256(sample.data).hexdigest()
    return Packed(sample.row, digest, kind.fingerprint(values), note, dict(properties))


def in_processes(
    samples: Iterable[Raw],
    work: Work[T],
    timeout: float = TIMEOUT_SECONDS,
    chunk: int = CHUNK,
    in_flight: int = CHUNKS_IN_FLIGHT,
) -> Generator[T | Refused]:
    """Apply a function to samples in worker processes, one for each core.

    The number and the bytes of scheduled chunks bound the memory. Close the generator to end the workers early.

    Args:
        samples: Row and bytes of each sample.
        work: Takes a chunk of samples and returns an outcome for each; worker processes must be able to import it.
        timeout: Longest time in seconds for a chunk, or for a single sample that is retried.
        chunk: Largest number of samples that a worker gets at once.
        in_flight: Largest number of scheduled or finished chunks per worker.

    Yields:
        The outcomes in the order of the samples. A sample that crashes its process or takes too long, again when it is
        retried on its own, is refused with ``DECODE_CRASHED`` or ``DECODE_TIMEOUT``.

    Raises:
        MachineError: Too many workers crash, or workers cannot start.
    """
    chunks = _chunks(samples, chunk)
    first = list(islice(chunks, available_cores()))
    workers = max(1, len(first))  # a worker without work would be stopped while it starts
    waiting = chain(first, chunks)
    pending: deque[tuple[list[Raw], ProcessFuture[list[T]]]] = deque()
    scheduled_bytes = 0
    lost = 0
    # "fork" is unsafe because this process has threads, such as those of the linear algebra library.
    pool = ProcessPool(workers, initializer=end_with_parent, context=multiprocessing.get_context("spawn"))
    try:
        while True:
            while len(pending) < workers or (len(pending) < in_flight * workers and scheduled_bytes < BYTES_IN_FLIGHT):
                if not (taken := next(waiting, [])):
                    break
                pending.append((taken, pool.schedule(work, (taken,), timeout=timeout)))
                scheduled_bytes += sum(map(_bytes_of, taken))
            if not pending:
                pool.close()  # type: ignore[no-untyped-call]
                pool.join()  # a worker that is stopped while it starts would print a traceback
                return
            taken, future = pending.popleft()
            scheduled_bytes -= sum(map(_bytes_of, taken))
            try:
                yield from future.result()
                continue
            except (ProcessExpired, TimeoutError):
                pass  # the failing sample of the chunk is unknown, so each is retried on its own
            for sample in taken:
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
                        "free memory, or reinstall Pillow"
                    )
                yield refused
    except BrokenProcessPool as error:
        raise MachineError(
            "the decoding processes cannot start: free memory, or run it from a script that starts its work "
            'under `if __name__ == "__main__":`'
        ) from error
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


def _chunks(samples: Iterable[Raw], size: int) -> Iterator[list[Raw]]:
    chunk: list[Raw] = []
    total = 0
    for sample in samples:
        chunk.append(sample)
        total += _bytes_of(sample)
        if len(chunk) == size or total >= CHUNK_BYTES:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk


def _bytes_of(sample: Raw) -> int:
    data = sample.data
    if isinstance(data, Mapping):
        return sum(map(len, data.values()))
    return len(data) if isinstance(data, bytes) else 0


def end_with_parent() -> None:
    """End this worker when its parent is killed, even during decoding."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    if parent := multiprocessing.parent_process():
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
