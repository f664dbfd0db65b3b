"""The routes of the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manyheads.modeling.saving import ModelCard
from manyheads.preprocessing.decoding import Refused
from manyheads.serving import bodies, description, page
from manyheads.serving.answering import Answering
from manyheads.serving.limits import Limits
from manyheads.serving.metrics import Metrics
from manyheads.serving.problems import Problem, of_refusal

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
OTHER = "other"
"""The path of a request in the metrics if it is none of the server's."""


def build(
    card: ModelCard,
    name: str,
    answering: Answering,
    main_page: page.Page,
    hosts: Collection[str],
    finds_faces: bool,
    limits: Limits,
) -> FastAPI:
    """Return the application.

    Args:
        card: The description of the model.
        name: What the model is called.
        answering: Answers samples.
        main_page: The page to try the model on.
        hosts: The names that requests may call the server by; any if there are none.
        finds_faces: Whether the crops of the model's faces are known.
        limits: The limits.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        answering.start()
        yield
        answering.stop()

    app = FastAPI(
        title=f"manyheads: {name}", version=card.digest[:12], summary=description.SUMMARY, lifespan=lifespan,
        docs_url=None, redoc_url=None,
    )  # fmt: skip
    memory = bodies.Memory(limits.bodies)
    media_types = bodies.media_types(card.inputs)
    model = {"name": name, "digest": card.digest}

    @app.post("/predict", **description.predict(card))
    async def predict(
        request: Request, find_faces: bool = Query(False, description=description.FIND_FACES)
    ) -> Response:
        if find_faces and not finds_faces:
            raise Problem(400, "CROPS_UNKNOWN", description.CROPS_UNKNOWN)
        with memory.share() as share:
            given = await bodies.read(request, card.inputs, media_types, limits, share)
            with answering.places(len(given.samples)):
                answer = _faces_of if find_faces else _heads_of
                answers = await asyncio.gather(*(answer(answering, sample) for sample in given.samples))
        if given.several:
            samples = [of_refusal(each).body if isinstance(each, Refused) else each for each in answers]
            return JSONResponse({"samples": samples, "model": model})
        (only,) = answers
        if isinstance(only, Refused):
            raise of_refusal(only)
        return JSONResponse({**only, "model": model})

    @app.get("/health", **description.HEALTH)
    async def health() -> Response:
        if not answering.alive:
            raise Problem(503, "STOPPED", "samples are not answered any more: start the server again")
        return JSONResponse({"status": "ok", "model": model})

    @app.get("/metrics", **description.METRICS)
    async def metrics() -> Response:
        return Response(generate_latest(answering.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    for each in (main_page, page.routes_page(app.openapi())):
        app.add_api_route(each.path, each.answer, methods=["GET", "HEAD"], include_in_schema=False)

    app.add_exception_handler(Problem, _refuse)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse)
    app.add_exception_handler(Exception, _refuse)
    paths = {route.path for route in app.routes if hasattr(route, "path")}
    app.add_middleware(_Watch, metrics=answering.metrics, paths=paths, hosts=hosts)
    return app


async def _heads_of(answering: Answering, data: bodies.Data | Refused) -> dict[str, Any] | Refused:
    return await answering.answer(data)


async def _faces_of(answering: Answering, data: bodies.Data | Refused) -> dict[str, Any] | Refused:
    found = await answering.answer_faces(data)
    if isinstance(found, Refused):
        return found
    return {
        "faces": [
            {"box": box, **(of_refusal(answer).body if isinstance(answer, Refused) else answer)}
            for box, answer in found
        ]
    }


async def _refuse(request: Request, error: Exception) -> Response:
    """Return the answer for a request that is refused, or that failed."""
    headers = {}
    if isinstance(error, Problem):
        problem = error
    elif isinstance(error, HTTPException):
        code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "HTTP_ERROR")
        problem, headers = Problem(error.status_code, code, str(error.detail)), dict(error.headers or {})
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        problem = Problem(400, "QUERY_MALFORMED", f"{first['loc'][-1]}: {first['msg']}")
    else:
        problem = Problem(500, "INTERNAL", "the server failed: see its log")
    request.scope["code"] = problem.code
    return JSONResponse(problem.body, problem.status, headers | problem.headers)


class _Watch:
    """Counts requests, and refuses those that call the server by a name that is not its own.

    A page of another origin could otherwise point a name of its own to this machine and read the answers (DNS
    rebinding). There are no CORS headers, so it cannot read them under the server's name either.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Collection[str], hosts: Collection[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = paths
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        path = scope["path"] if scope["path"] in self._paths else OTHER
        scope["code"] = ""
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            host = Request(scope).headers.get("host", "")
            if self._hosts and _without_port(host) not in self._hosts:
                reason = f"the server is not called {host[:80]!r}: use http://{LOOPBACK[0]}"
                await (await _refuse(Request(scope), Problem(400, "HOST_UNKNOWN", reason)))(scope, receive, watched)
            else:
                await self._app(scope, receive, watched)
        finally:
            self._metrics.requests.labels(
                path, str(status), scope["code"] or ("INTERNAL" if status == 500 else "")
            ).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - began)


def _without_port(host: str) -> str:
    head, _, port = host.lower().rpartition(":")
    return head if head and port.isdigit() else host.lower()
