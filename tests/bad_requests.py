"""Bad requests of many kinds, and how a server refuses each. The benchmark of the server sends them, too."""

import io
import json
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

LIMIT = 20_000_000
HOST = "127.0.0.1"


class Answer(NamedTuple):
    """An answer: its status, and its code or an empty text; status 0 if the connection ended without one."""

    status: int
    code: str


class Bad(NamedTuple):
    """A bad request.

    Attributes:
        pieces: Returns the bytes to send, in pieces.
        expected: The answer.
        is_cut: Whether the server closes the connection before all was sent, so that the answer may be lost.
    """

    pieces: Callable[[], Iterator[bytes]]
    expected: Answer
    is_cut: bool = False

    def is_answered_by(self, answer: Answer) -> bool:
        """Return whether an answer is the expected one."""
        return answer == self.expected or (self.is_cut and answer.status == 0)


def request(
    body: bytes, media_type: str = "image/jpeg", path: str = "/predict", method: str = "POST", **headers
) -> bytes:
    """Return a whole request, which asks to close the connection."""
    lines = {"Host": HOST, "Content-Type": media_type, "Content-Length": str(len(body)), "Connection": "close"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def send(port: int, pieces: Iterator[bytes], timeout: float = 60) -> Answer:
    """Send pieces and return the answer."""
    with socket.create_connection((HOST, port), timeout=timeout) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except OSError:
            pass  # the server has answered and closed before all was sent
        return read_answer(connection)


def read_answer(connection: socket.socket) -> Answer:
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except OSError:
        pass
    if not received:
        return Answer(0, "")
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    return Answer(status, json.loads(body).get("code", "") if body.startswith(b"{") else "")


def picture(width: int, height: int, kind: str = "JPEG", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, kind)
    return file.getvalue()


def declared(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that says it has a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def kinds(good: bytes) -> dict[str, Bad]:
    """Return the bad requests by name, for a model whose only input is ``image``.

    Args:
        good: A JPEG.
    """

    def whole(status, code, *arguments, **named):
        data = request(*arguments, **named)
        return Bad(lambda: iter([data]), Answer(status, code))

    def endless():
        head = (
            f"POST /predict HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        yield head.encode()
        for _ in range(LIMIT // 2**20 + 5):
            yield b"100000\r\n" + bytes(2**20) + b"\r\n"

    as_json = "application/json"
    large = picture(10_000, 10_000, "PNG", "1")
    return {
        "truncated": whole(422, "DECODE_TRUNCATED", good[: len(good) // 2]),
        "empty": whole(422, "DECODE_UNIDENTIFIED", b""),
        "random bytes": whole(422, "DECODE_UNIDENTIFIED", np.random.default_rng(0).bytes(5000)),
        "html": whole(422, "DECODE_UNIDENTIFIED", b"<html><script>alert(1)</script></html>"),
        "svg": whole(422, "DECODE_UNIDENTIFIED", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        "gif": whole(422, "FORMAT_UNSUPPORTED", picture(8, 8, "GIF"), "image/gif"),
        "pdf": whole(415, "MEDIA_TYPE", b"%PDF-1.7", "application/pdf"),
        "zip": whole(415, "MEDIA_TYPE", b"PK\x03\x04", "application/zip"),
        "no content type": whole(415, "MEDIA_TYPE", good, ""),
        "zip as picture": whole(422, "DECODE_UNIDENTIFIED", b"PK\x03\x04" + bytes(1000)),
        "declared size": whole(413, "PIXELS_LIMIT", declared(60_000, 60_000), "image/png"),
        "10,000 x 10,000": whole(413, "PIXELS_LIMIT", large, "image/png"),
        "bomb": whole(422, "DECODE_TRUNCATED", declared(7000, 7000), "image/png"),
        "declared length": Bad(lambda: iter([request(b"", Content_Length=str(10**12))]), Answer(413, "BODY_LIMIT")),
        "endless": Bad(endless, Answer(413, "BODY_LIMIT"), is_cut=True),
        "wrong JSON": whole(400, "JSON_MALFORMED", b'{"image": ', as_json),
        "deep JSON": whole(400, "JSON_MALFORMED", b"[" * 200_000, as_json),
        "NaN": whole(400, "JSON_MALFORMED", b'{"image": NaN}', as_json),
        "not UTF-8": whole(400, "JSON_MALFORMED", b'{"image": "\xff\xfe"}', as_json),
        "no base64": whole(422, "VALUE_MALFORMED", b'{"image": "no base64!"}', as_json),
        "a number": whole(422, "VALUE_MALFORMED", b'{"image": 1e400}', as_json),
        "another input": whole(400, "INPUT_UNKNOWN", b'{"picture": ""}', as_json),
        "no object": whole(400, "SAMPLE_MALFORMED", b'["x"]', as_json),
        "no sample": whole(400, "SAMPLES_MISSING", b"[]", as_json),
        "too many": whole(413, "SAMPLES_LIMIT", json.dumps([{"image": ""}] * 3000).encode(), as_json),
        "form without boundary": whole(400, "FORM_MALFORMED", b"x", "multipart/form-data"),
        "broken form": whole(400, "FORM_MALFORMED", b"--b\r\nno header\r\n\r\n", "multipart/form-data; boundary=b"),
        "other host": whole(400, "HOST_UNKNOWN", good, Host="evil.example"),
        "other path": whole(404, "NOT_FOUND", b"", path="/../etc/passwd"),
        "other method": whole(405, "METHOD_NOT_ALLOWED", b"", method="DELETE"),
        "wrong query": whole(400, "QUERY_MALFORMED", good, path="/predict?find_faces=perhaps"),
        "no HTTP": Bad(lambda: iter([b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"]), Answer(400, "")),
        "long header": Bad(
            lambda: iter([b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"a" * 200_000]), Answer(400, ""), is_cut=True
        ),
    }


def leave(port: int, data: bytes) -> None:
    """Send a request and leave: before its body is whole, or before its answer."""
    with socket.create_connection((HOST, port), timeout=10) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(data)
