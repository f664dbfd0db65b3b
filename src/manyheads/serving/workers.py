"""Decoding in worker processes, so that a file that crashes or hangs its decoder costs one answer and not the server.

Threads would cost less, but nothing can stop a thread that hangs, and a decoder that crashes would end the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import multiprocessing
import os
import time
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from pebble import ProcessExpired, ProcessPool

from manyheads.inputs import Input
from manyheads.prediction.face_crops import Calibration
from manyheads.prediction.face_detection import detect
from manyheads.prediction.face_finding import Found, find
from manyheads.preprocessing.decoding import Raw, Refused, Sample, Work, decode, end_with_parent
from manyheads.runtime.hardware import available_cores

T = TypeVar("T")
Data = Mapping[str, bytes]


class Workers:
    """Processes that decode, one a core."""

    def __init__(self, kinds: Mapping[str, Input], calibration: Calibration | None, seconds: float) -> None:
        """Start the processes; ``wait`` tells when they are ready.

        Args:
            kinds: The model's inputs by name.
            calibration: The crops of the model's faces; None if they are not known.
            seconds: Longest time for a sample.
        """
        self._seconds = seconds
        self._decode = functools.partial(decode, kinds)
        self._find = functools.partial(find, kinds, calibration) if calibration else None
        self._count = available_cores()
        # "fork" is unsafe because this process has threads, such as those of TensorFlow.
        self._pool = ProcessPool(
            self._count,
            initializer=_prepare,
            initargs=(kinds, calibration),
            context=multiprocessing.get_context("spawn"),
        )
        self._pool.schedule(os.getpid)  # the first task starts the processes

    def wait(self) -> None:
        """Wait until each process has answered, which takes seconds.

        Raises:
            RuntimeError: They cannot start.
        """
        seen: set[int] = set()
        while len(seen) < self._count:
            seen.add(self._pool.schedule(os.getpid).result())
            time.sleep(0.01)

    async def decode(self, data: Data) -> Sample | Refused:
        """Return a sample decoded, or its refusal."""
        return await self._done(self._decode, data)

    async def find_faces(self, data: Data) -> list[Found] | Refused:
        """Return the faces of a picture from left to right, or why there are none."""
        if self._find is None:
            raise ValueError("the crops of the model's faces are not known")
        return await self._done(self._find, data)

    async def _done(self, work: Work[T], data: Data) -> T | Refused:
        try:
            task = self._pool.schedule(work, ([Raw(0, data)],), timeout=self._seconds)
            (outcome,) = await asyncio.wrap_future(task)
        except ProcessExpired:
            return Refused(0, "DECODE_CRASHED", "the decoder's process died of it")
        except TimeoutError:
            return Refused(0, "DECODE_TIMEOUT", f"not decoded after {self._seconds:g} s")
        return outcome

    @property
    def alive(self) -> bool:
        """Whether samples are decoded."""
        return bool(self._pool.active)

    def stop(self) -> None:
        """End the processes."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


def _prepare(kinds: Mapping[str, Input], calibration: Calibration | None) -> None:
    """Prepare a process: what a first sample would import and load is there before it."""
    end_with_parent()
    with contextlib.suppress(Exception):  # whatever an input of a user's own says to no bytes
        decode(kinds, [Raw(0, dict.fromkeys(kinds, b""))])
    if calibration:
        detect(np.zeros((64, 64, 3), np.uint8))
