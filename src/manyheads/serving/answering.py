"""From the samples of requests to answers: a queue, batches, and the model in a thread."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from manyheads.modeling.inference import PREDICTION_BATCH
from manyheads.prediction.answers import AnsweringModel, Answers
from manyheads.prediction.tables import PLACE
from manyheads.preprocessing.decoding import Refused, Sample
from manyheads.serving.bodies import Data
from manyheads.serving.evaluated import Evaluated
from manyheads.serving.limits import Limits
from manyheads.serving.metrics import Metrics
from manyheads.serving.problems import Problem
from manyheads.serving.workers import Workers

Answer = dict[str, Any]
"""An answer in JSON's types: for each head its answer, and the note."""


class _Waiting(NamedTuple):
    sample: Sample
    answer: asyncio.Future[Answer]


class Answering:
    """Answers samples. Those that wait at the same time share a batch of the model.

    Attributes:
        waiting: Number of samples that wait for their answers.
    """

    def __init__(self, model: AnsweringModel, workers: Workers, evaluated: Evaluated, limits: Limits) -> None:
        """Prepare; ``start`` begins to answer."""
        self.waiting = 0
        self.metrics = Metrics(lambda: self.waiting)
        self._model = model
        self._workers = workers
        self._evaluated = evaluated
        self._limits = limits
        self._decoded: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "model")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer in the running event loop."""
        self._task = asyncio.create_task(self._answer_batches())

    def stop(self) -> None:
        """End; nothing waits any more."""
        if self._task:
            self._task.cancel()
        self._thread.shutdown()

    @property
    def alive(self) -> bool:
        """Whether samples are answered."""
        return self._workers.alive and self._task is not None and not self._task.done()

    @contextmanager
    def places(self, count: int) -> Iterator[None]:
        """Hold the places of samples that wait.

        Raises:
            Problem: Too many wait already.
        """
        if self.waiting + count > self._limits.waiting:
            raise Problem(503, "QUEUE_FULL", f"{self.waiting} samples wait: come again in a moment")
        self.waiting += count
        try:
            yield
        finally:
            self.waiting -= count

    async def answer(self, data: Data | Refused) -> Answer | Refused:
        """Return the answer for a sample, or why it cannot be read."""
        return await self._answer(data if isinstance(data, Refused) else await self._workers.decode(data))

    async def answer_faces(self, data: Data | Refused) -> list[tuple[Answer, Answer | Refused]] | Refused:
        """Return the box and the answer of each face of a picture from left to right, or why there are none."""
        found = data if isinstance(data, Refused) else await self._workers.find_faces(data)
        if isinstance(found, Refused):
            self.metrics.samples.labels(found.code).inc()
            return found
        answers = await asyncio.gather(*(self._answer(each.outcome) for each in found))
        boxes = [dict(zip(PLACE[1:], each.face.box, strict=True)) for each in found]
        return list(zip(boxes, answers, strict=True))

    async def _answer(self, outcome: Sample | Refused) -> Answer | Refused:
        if isinstance(outcome, Refused):
            self.metrics.samples.labels(outcome.code).inc()
            return outcome
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._decoded.put_nowait(_Waiting(outcome, answer))
        found = await answer
        self.metrics.samples.labels("noted" if found["note"] else "usual").inc()
        return found

    async def _answer_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._decoded.get()]
            while len(batch) < PREDICTION_BATCH and not self._decoded.empty():
                batch.append(self._decoded.get_nowait())
            self.metrics.batches.observe(len(batch))
            try:
                answers = await loop.run_in_executor(self._thread, self._answers, [each.sample for each in batch])
            except Exception as error:  # a batch that fails must not end the loop; its requests tell
                for each in batch:
                    if not each.answer.done():
                        each.answer.set_exception(error)
                continue
            for each, answer in zip(batch, answers, strict=True):
                if not each.answer.done():  # a server that is ended by force gives up its requests
                    each.answer.set_result(answer)

    def _answers(self, samples: Sequence[Sample]) -> list[Answer]:
        answers = self._model(samples)
        return [self._reply(answers, row) for row in range(len(samples))]

    def _reply(self, answers: Answers, row: int) -> Answer:
        heads = {}
        for name, head in self._model.card.heads.items():
            cells = {column: _plain(values[row]) for column, values in answers.heads[name].items()}
            confidences = answers.confidences[name]
            tested = self._evaluated.tested(name, None if confidences is None else float(confidences[row]))
            heads[name] = head.as_json(cells) | ({"tested": tested} if tested else {})
        return {"heads": heads, "note": answers.notes[row]}


def _plain(value: Any) -> Any:
    """Return a cell in JSON's types; a number that is not finite is None."""
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
