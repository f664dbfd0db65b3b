"""The server as a process: what it consists of, how it starts and how it ends."""

from __future__ import annotations

import asyncio
import logging
import socket
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from manyheads.modeling import saving
from manyheads.prediction.answers import AnsweringModel
from manyheads.prediction.face_crops import CALIBRATIONS
from manyheads.runtime import ports
from manyheads.serving import app
from manyheads.serving.answering import Answering
from manyheads.serving.evaluated import Evaluated
from manyheads.serving.limits import Limits
from manyheads.serving.page import main_page
from manyheads.serving.workers import Workers

STOP_SECONDS = 60
"""Longest time that requests get to be answered after the signal to stop."""

DEFAULTS = Limits()

IDLE_SECONDS = 30
"""Longest time between two requests of a connection."""


class Model(NamedTuple):
    """A model to serve.

    Attributes:
        name: What it is called.
        folder: A folder from ``saving.save``.
        extensions: Packages that a user's own heads and inputs may be imported from.
        reports: A folder with the evaluation and the card of the model, or None.
    """

    name: str
    folder: Path
    extensions: Sequence[str]
    reports: Path | None


def serve(model: Model, listener: socket.socket) -> None:
    """Serve a model until a signal; what waits then is answered. See ``prepared``."""
    with prepared(model, listener) as server:
        server.run(sockets=[listener])


@contextmanager
def prepared(model: Model, listener: socket.socket, limits: Limits = DEFAULTS) -> Iterator[uvicorn.Server]:
    """Yield a server that answers at once when it runs.

    Args:
        model: The model.
        listener: Where to listen, see ``ports.bound``.
        limits: The limits.

    Raises:
        IntegrityError: As in ``saving.load``.
    """
    # A parser of forms, which tells of each damaged form.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    card = saving.read_card(model.folder, model.extensions)
    hosts = app.LOOPBACK if ports.is_loopback(listener) else ()
    calibration = CALIBRATIONS.get(card.data) if len(card.inputs) == 1 else None
    evaluated = Evaluated(card, model.reports)
    shown = main_page(card, model.name, evaluated, calibration is not None, limits, model.extensions)
    workers = Workers(card.inputs, calibration, limits.decode_seconds)  # start while TensorFlow is loaded
    try:
        answering_model = AnsweringModel(saving.load(model.folder, model.extensions), short_batches=True)
        answering = Answering(answering_model, workers, evaluated, limits)
        application = app.build(card, model.name, answering, shown, hosts, calibration is not None, limits)
        workers.wait()
        yield _Server(_config(application, limits), *listener.getsockname()[:2])
    finally:
        workers.stop()


def _config(application: FastAPI, limits: Limits) -> uvicorn.Config:
    class Protocol(_Protocol):
        HEADER_SECONDS = limits.header_seconds

    return uvicorn.Config(
        application, http=Protocol, ws="none", lifespan="on",
        log_level="error", log_config=None, access_log=False, server_header=False,
        proxy_headers=False, timeout_keep_alive=IDLE_SECONDS, timeout_graceful_shutdown=STOP_SECONDS,
    )  # fmt: skip


class _Protocol(H11Protocol):
    """Ends a connection whose headers come too slowly, which uvicorn would wait for without end."""

    HEADER_SECONDS: float

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._end_headers()
        elif self._header_timer is None:
            self._begin_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_headers()
        super().connection_lost(exc)

    def _begin_headers(self) -> None:
        self._header_timer = self.loop.call_later(self.HEADER_SECONDS, self.transport.close)

    def _end_headers(self) -> None:
        if self._header_timer:
            self._header_timer.cancel()
            self._header_timer = None


class _Server(uvicorn.Server):
    """Prints its address when it has answered a first request, because a first one takes longer than those after it."""

    def __init__(self, config: uvicorn.Config, host: str, port: int) -> None:
        super().__init__(config)
        self._address = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await asyncio.to_thread(_ask, self._address)
        print(f"{self._address}\n(Ctrl-C stops it)", flush=True)


def _ask(address: str) -> None:
    with urllib.request.urlopen(f"{address}/health", timeout=IDLE_SECONDS) as answer:
        answer.read()
