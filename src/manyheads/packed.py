"""The packed images: one array on disk, filled by worker processes, read through a memory map.

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
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from manyheads import images
from manyheads.errors import IntegrityError, MachineError
from manyheads.machine import available_cores

CHUNK = 128
"""Images that a worker gets at once."""

CHUNKS_IN_FLIGHT = 3
"""Chunks for each worker that are under way or done and not yet taken: what bounds the memory."""

TIMEOUT_SECONDS = 120.0
"""How long a chunk, and later a single image of it, may take: a thousand times what it does take."""

MAX_LOST_WORKERS = 20
"""So many dead workers are the machine's fault and not the images'."""


class Encoded(NamedTuple):
    """The bytes of the image that belongs into a row of the array."""

    row: int
    data: bytes


class Packed(NamedTuple):
    """A row that was filled: the SHA-256 of the bytes, the fingerprint (16, 16) and the decoder's note."""

    row: int
    sha256: str
    fingerprint: images.Pixels
    note: str


class Refused(NamedTuple):
    """A row that stays zero, with a stable code and a reason."""

    row: int
    code: str
    reason: str


Decoder = Callable[[bytes, int], images.Decoded]
Work = Callable[[Sequence[Encoded]], list[Packed | Refused]]


def open_images(path: Path) -> npt.NDArray[np.uint8]:
    """Map the packed images into memory, read-only: nothing is read before it is used.

    Args:
        path: The ``.npy`` file that pack wrote.

    Returns:
        The images, shape (n, size, size, 3), uint8, RGB.

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
    square_rgb = array.ndim == 4 and array.shape[1] == array.shape[2] and array.shape[3] == 3
    if array.dtype != np.uint8 or not square_rgb:
        found = f"{array.dtype} of shape {array.shape}"
        raise IntegrityError(f"{path} holds {found}, not uint8 of shape (n, size, size, 3): {remedy}")
    return array


def decode_into(
    path: Path,
    count: int,
    size: int,
    encoded: Iterable[Encoded],
    decoder: Decoder = images.decode,
    timeout: float = TIMEOUT_SECONDS,
) -> Generator[Packed | Refused]:
    """Make an array of ``count`` images at ``path`` and fill it, in as many processes as there are cores.

    The workers write the pixels, so that only the bytes go to them and only findings come back. Memory is
    bounded by the chunks in flight. Close the generator to end the workers early.

    Args:
        path: The ``.npy`` file, of shape (count, size, size, 3), uint8. Other rows are zero.
        count: Number of rows.
        size: Height and width of an image in pixels.
        encoded: Row and bytes of each image.
        decoder: A function like ``images.decode`` that another process can import.
        timeout: Seconds that a chunk, and an image that is tried alone, may take.

    Yields:
        What became of each image. Beside the decoder's own codes there are ``DECODE_CRASHED`` and
        ``DECODE_TIMEOUT`` for an image that ends its process, or takes too long, also when it is tried alone.

    Raises:
        MachineError: Workers die all the time.
        OSError: The array cannot be written.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, size, size, 3))
    work = functools.partial(_decode_chunk, path, array.offset, size, decoder, timeout)
    del array
    workers = available_cores()
    waiting = iter(encoded)
    pending: deque[tuple[list[Encoded], Future[list[Packed | Refused]]]] = deque()
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
                # Nobody knows whose image it was, so all that was under way is done again, one by one.
                suspects = [image for each in (chunk, *(other for other, _ in pending)) for image in each]
                pending.clear()
                pool.shutdown()
                for outcome in _one_by_one(suspects, work, timeout):
                    lost += isinstance(outcome, Refused) and outcome.code in (
                        "DECODE_CRASHED",
                        "DECODE_TIMEOUT",
                    )
                    if lost > MAX_LOST_WORKERS:
                        raise MachineError(
                            f"{lost} decoding processes died, more than images can account for: "
                            "free memory, or install Pillow anew"
                        ) from None
                    yield outcome
                pool = _start(workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _one_by_one(suspects: Iterable[Encoded], work: Work, timeout: float) -> Iterator[Packed | Refused]:
    pool = _start(1)
    try:
        for image in suspects:
            began = time.monotonic()
            try:
                yield from _submit(pool, work, [image]).result()
            except BrokenProcessPool:
                if time.monotonic() - began < timeout:
                    yield Refused(image.row, "DECODE_CRASHED", "the decoder's process died of it")
                else:
                    yield Refused(image.row, "DECODE_TIMEOUT", f"not decoded after {timeout:g} s")
                pool.shutdown()
                pool = _start(1)
    finally:
        pool.shutdown(cancel_futures=True)


def _start(workers: int) -> ProcessPoolExecutor:
    # Not "fork": this process has threads, of the linear algebra library for one.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _prepare_worker)


def _submit(pool: ProcessPoolExecutor, work: Work, chunk: Sequence[Encoded]) -> Future[list[Packed | Refused]]:
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


def _decode_chunk(
    path: Path, offset: int, size: int, decoder: Decoder, timeout: float, chunk: Sequence[Encoded]
) -> list[Packed | Refused]:
    # Written through a file and not a memory map: a full disk is then an error and not a dead process.
    with path.open("r+b", buffering=0) as file, Path(os.devnull).open("w") as nowhere:
        faulthandler.dump_traceback_later(timeout, exit=True, file=nowhere)
        try:
            return [_decode_one(file, offset, size, decoder, image) for image in chunk]
        finally:
            faulthandler.cancel_dump_traceback_later()


def _decode_one(file: FileIO, offset: int, size: int, decoder: Decoder, image: Encoded) -> Packed | Refused:
    try:
        pixels, note = decoder(image.data, size)
    except images.Undecodable as refusal:
        return Refused(image.row, refusal.code, refusal.reason)
    file.seek(offset + image.row * pixels.nbytes)
    if file.write(pixels.data) != pixels.nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return Packed(image.row, hashlib.sha256(image.data).hexdigest(), images.fingerprint(pixels), note)
