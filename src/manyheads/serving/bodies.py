"""Bodies of requests: from bytes that come over the network to the bytes of samples, within the limits."""

from __future__ import annotations

import asyncio
import json
import mimetypes
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from manyheads.errors import Unreadable, did_you_mean
from manyheads.inputs import Input
from manyheads.preprocessing.decoding import Refused
from manyheads.serving.limits import Limits
from manyheads.serving.problems import Problem

JSON, FORM, BYTES = "application/json", "multipart/form-data", "application/octet-stream"

Data = Mapping[str, bytes]
"""The bytes of a sample's inputs by name."""


class Given(NamedTuple):
    """The samples of a request.

    Attributes:
        samples: The bytes of each, or why it has none.
        several: Whether the client gave a list, so that it gets one.
    """

    samples: Sequence[Data | Refused]
    several: bool


class Memory:
    """The bodies that are in memory."""

    def __init__(self, limit: int) -> None:
        """Begin empty; ``limit`` is in bytes."""
        self._limit = limit
        self._held = 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """Yield the share of a request, which is given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self._held -= share.size

    def take(self, size: int) -> None:
        """Count further bytes.

        Raises:
            Problem: There would be too many.
        """
        if self._held + size > self._limit:
            raise Problem(503, "MEMORY_FULL", f"bodies of {self._limit:,} bytes wait: come again in a moment")
        self._held += size


class Share:
    """What one request has of the memory for bodies."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.size = 0

    def take(self, size: int) -> None:
        """Count further bytes; see ``Memory.take``."""
        self._memory.take(size)
        self.size += size


def media_types(kinds: Mapping[str, Input]) -> list[str]:
    """Return the content types that a model takes; one such as ``image/*`` stands for all that begin so."""
    families = {
        f"{found.partition('/')[0]}/*"
        for suffix in _only_file(kinds)
        if (found := mimetypes.guess_type(f"file{suffix}", strict=False)[0])
    }
    return [*sorted(families), *([BYTES] if _only_file(kinds) else []), FORM, JSON]


def _only_file(kinds: Mapping[str, Input]) -> tuple[str, ...]:
    """Return the endings of the files that samples are; empty if a sample is more than a file."""
    first, *others = kinds.values()
    return () if others else first.FILE_SUFFIXES


async def read(
    request: Request, kinds: Mapping[str, Input], known: Collection[str], limits: Limits, share: Share
) -> Given:
    """Return the samples of a request; its content type decides how they are read.

    Args:
        request: The request.
        kinds: The model's inputs by name.
        known: The content types that are read, from ``media_types``.
        limits: The limits.
        share: Counts the bytes of the body.

    Raises:
        Problem: The content type is not read, the body is too large, too slow, incomplete or malformed,
            or it has no samples or too many.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not {media_type, f"{media_type.partition('/')[0]}/*"} & set(known):
        raise Problem(415, "MEDIA_TYPE", f"content type {media_type!r} is not read: send {', '.join(known)}")
    chunks = _chunks(request, limits, share)
    try:
        async with asyncio.timeout(limits.body_seconds):
            if media_type == FORM:
                given = await _from_form(request, chunks, kinds, limits)
            else:
                body = b"".join([chunk async for chunk in chunks])
                given = _from_json(body, kinds) if media_type == JSON else _from_bytes(body, kinds)
    except TimeoutError:
        raise Problem(408, "BODY_TIMEOUT", f"the body did not arrive in {limits.body_seconds:g} s") from None
    except ClientDisconnect:
        raise Problem(400, "BODY_INCOMPLETE", "the connection ended before the body") from None
    if not given.samples:
        raise Problem(400, "SAMPLES_MISSING", "there is no sample")
    if len(given.samples) > limits.samples:
        raise Problem(413, "SAMPLES_LIMIT", f"{len(given.samples)} samples are more than {limits.samples}")
    return given


async def _chunks(request: Request, limits: Limits, share: Share) -> AsyncGenerator[bytes]:
    too_large = Problem(413, "BODY_LIMIT", f"the body has more than {limits.body:,} bytes")
    if int(request.headers.get("content-length", 0)) > limits.body:
        raise too_large
    async for chunk in request.stream():
        share.take(len(chunk))
        if share.size > limits.body:
            raise too_large
        yield chunk


def _from_bytes(body: bytes, kinds: Mapping[str, Input]) -> Given:
    (name,) = kinds
    return Given([{name: body}], several=False)


def _from_json(body: bytes, kinds: Mapping[str, Input]) -> Given:
    try:
        # Unlike JSON itself, Python would take NaN and Infinity.
        content = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "too deep" if isinstance(error, RecursionError) else str(error)
        raise Problem(400, "JSON_MALFORMED", f"no JSON: {reason}") from None
    values = content if isinstance(content, list) else [content]
    return Given([_sample(row, each, kinds) for row, each in enumerate(values)], several=isinstance(content, list))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


async def _from_form(
    request: Request, chunks: AsyncGenerator[bytes], kinds: Mapping[str, Input], limits: Limits
) -> Given:
    parser = MultiPartParser(
        request.headers, chunks, max_files=limits.samples, max_fields=limits.samples, max_part_size=limits.body
    )
    parser.spool_max_size = limits.body + 1  # photographs stay in memory, instead of in a file
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeError) as error:
        reason = getattr(error, "message", "") or "its boundary is missing or its fields are damaged"
        raise Problem(400, "FORM_MALFORMED", f"no form: {reason}") from None
    try:
        fields = {name: [await _content(value) for value in form.getlist(name)] for name in form}
    finally:
        await form.close()
    counts = {len(values) for values in fields.values()}
    if len(counts) > 1:
        raise Problem(400, "FORM_UNEVEN", "each input needs as many values as the others")
    rows = [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)]
    return Given([_sample(row, each, kinds) for row, each in enumerate(rows)], several=len(rows) > 1)


async def _content(value: UploadFile | str) -> bytes | str:
    return value if isinstance(value, str) else await value.read()


def _sample(row: int, values: Any, kinds: Mapping[str, Input]) -> Data | Refused:
    wanted = ", ".join(kinds)
    if not isinstance(values, dict):
        raise Problem(400, "SAMPLE_MALFORMED", f"a sample is an object with {wanted}")
    if unknown := next((name for name in values if name not in kinds), None):
        raise Problem(
            400, "INPUT_UNKNOWN", f"no input {unknown[:80]!r}{did_you_mean(unknown[:80], [*kinds])} (inputs: {wanted})"
        )
    if missing := next((name for name in kinds if name not in values), None):
        raise Problem(400, "INPUT_MISSING", f"the input {missing!r} is missing (inputs: {wanted})")
    try:
        return {name: kind.bytes_of(values[name]) for name, kind in kinds.items()}
    except Unreadable as problem:
        return Refused(row, problem.code, problem.reason)
