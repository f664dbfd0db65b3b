"""Bad requests, hostile files and too many requests cost an answer and not the server."""

import concurrent.futures
import contextlib
import http.client
import json
import logging
import socket
import time

import psutil
import pytest

import bad_requests
from manyheads.prediction.answers import AnsweringModel
from manyheads.serving.limits import Limits
from serving_models import Hostile, ask, form, get, jpeg, save_untrained, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_config):
    folder = tmp_path_factory.mktemp("model")
    settings = tiny_config()
    save_untrained(folder, settings, image=Hostile(image_size=16, duplicate_correlation=1))
    return folder


@pytest.fixture(scope="module")
def port(folder):
    with serving(folder, limits=Limits(decode_seconds=1)) as port:
        yield port


@pytest.mark.parametrize("name", bad_requests.kinds(b""))
def test_a_bad_request_is_refused_with_its_code(name, port):
    bad = bad_requests.kinds(jpeg())[name]
    answer = bad_requests.send(port, bad.pieces())
    assert bad.is_answered_by(answer), answer


def test_a_refusal_is_json_with_a_code_and_a_reason(port):
    status, answer = ask(port, b"<html>", "text/html")
    assert status == 415
    assert answer["code"] == "MEDIA_TYPE"
    assert answer["reason"].endswith("send image/*, application/octet-stream, multipart/form-data, application/json")
    assert ask(port, jpeg(), query="?find_faces=perhaps")[1]["code"] == "QUERY_MALFORMED"
    assert ask(port, *form(("picture", jpeg())))[1] == {
        "code": "INPUT_UNKNOWN", "reason": "no input 'picture' (inputs: image)",
    }  # fmt: skip


def test_a_hundred_bad_requests_change_nothing(port):
    good = [ask(port, jpeg(seed)) for seed in range(5)]
    kinds = [*bad_requests.kinds(jpeg()).values()]
    for number in range(100):
        bad_requests.send(port, kinds[number % len(kinds)].pieces())
        if number % 5 == 0:
            data = bad_requests.request(jpeg())
            bad_requests.leave(port, data[: len(data) * number // 100])
    assert [ask(port, jpeg(seed)) for seed in range(5)] == good
    assert json.loads(get(port, "/health"))["status"] == "ok"


@pytest.mark.parametrize(("data", "code"), [(b"crash", "DECODE_CRASHED"), (b"hang", "DECODE_TIMEOUT")])
def test_a_decoder_that_dies_or_hangs_costs_one_answer(data, code, port):
    good = ask(port, jpeg())
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        bad = [threads.submit(ask, port, data) for _ in range(2)]
        others = [threads.submit(ask, port, jpeg()) for _ in range(5)]
        assert [(each.result()[0], each.result()[1]["code"]) for each in bad] == [(422, code)] * 2
        assert [each.result() for each in others] == [good] * 5
    assert ask(port, jpeg()) == good


def test_photographs_stay_in_memory(port, monkeypatch, tmp_path):
    """A form of a large file would otherwise lie in a temporary file."""
    before = {file.path for file in psutil.Process().open_files()}
    with socket.create_connection(("127.0.0.1", port)) as connection:
        body, media_type = form(("image", bytes(5_000_000)))
        data = bad_requests.request(body, media_type)
        connection.sendall(data[:-10])
        time.sleep(0.3)
        assert {file.path for file in psutil.Process().open_files()} == before
        assert not [path for path in psutil.Process().open_files() if "tmp" in path.path and path.path not in before]
        connection.sendall(data[-10:])
        assert bad_requests.read_answer(connection).status == 422


@contextlib.contextmanager
def stalled(port, data):
    """Send the start of a request and keep the connection open."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(data)
        yield connection


def test_what_comes_too_slowly_or_too_much_is_refused(folder):
    limits = Limits(body=1000, bodies=1500, waiting=2, body_seconds=1, header_seconds=1, decode_seconds=2)
    small = b"x" * 900
    begun = bad_requests.request(small)[:-1]
    with serving(folder, limits=limits) as port:
        with stalled(port, begun) as first, stalled(port, b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n") as slow:
            time.sleep(0.3)
            status, answer = ask(port, small)
            assert (status, answer["code"]) == (503, "MEMORY_FULL")
            assert bad_requests.read_answer(first) == (408, "BODY_TIMEOUT")
            began = time.monotonic()
            assert bad_requests.read_answer(slow) == (0, "")
            assert time.monotonic() - began < 10
        assert ask(port, b"x" * 1001)[1]["code"] == "BODY_LIMIT"
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            hanging = [threads.submit(ask, port, b"hang") for _ in range(2)]
            while "manyheads_samples_waiting 2.0" not in get(port, "/metrics"):
                time.sleep(0.02)
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("POST", "/predict", b"x", {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert json.load(answer)["code"] == "QUEUE_FULL"
            connection.close()
            assert {each.result()[1]["code"] for each in hanging} == {"DECODE_TIMEOUT"}
        assert ask(port, b"x")[1]["code"] == "DECODE_UNIDENTIFIED"


def test_a_fault_of_the_server_is_a_500_that_is_logged(port, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("a fault")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(AnsweringModel, "__call__", fail)
        assert ask(port, jpeg()) == (500, {"code": "INTERNAL", "reason": "the server failed: see its log"})
        while "a fault" not in caplog.text:  # it is logged after the answer
            time.sleep(0.01)
    assert ask(port, jpeg())[0] == 200
