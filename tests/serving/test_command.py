"""The command ``serve`` as a process: how it starts and how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from bad_requests import request
from conftest import ROOT
from serving_models import ask, jpeg, save_untrained

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_config):
    folder = tmp_path_factory.mktemp("model")
    save_untrained(folder, tiny_config(), data="utkface")
    return folder


def start(folder, *options, where=None):
    """Start the command and return its process when it answers, and what it has printed."""
    command = [sys.executable, "-m", "manyheads", "serve", "--model", str(folder), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(
        command, cwd=where or folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip()


def test_it_answers_what_waits_and_ends(folder):
    process, printed = start(folder, "--port", "0")
    (port,) = map(int, re.findall(r"http://127\.0\.0\.1:(\d+)$", printed))
    good = ask(port, jpeg())
    assert good[0] == 200
    answers = []
    # One has not sent its whole body when the signal comes.
    body = jpeg()
    whole = request(body, Host=f"localhost:{port}")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(whole[:-100])
        threads = [threading.Thread(target=lambda: answers.append(ask(port, body))) for _ in range(20)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(OSError):  # noqa: PT011 - refused, or reset
            ask(port, body)
        connection.sendall(whole[-100:])
        received = b"".join(iter(lambda: connection.recv(65536), b""))
        for thread in threads:
            thread.join()
    assert json.loads(received.partition(b"\r\n\r\n")[2]) == good[1]
    assert answers == [good] * 20
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "loading the model ...\n")


def test_all_interfaces_are_warned_of_and_any_name_is_taken(folder):
    process, printed = start(folder, "--host", "0.0.0.0", "--port", "0")
    port = int(printed.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors.splitlines()[0].startswith("warning: whoever reaches 0.0.0.0 may ask: there is no authentication")


def test_a_port_in_use_is_one_line(folder):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        process, _ = start(folder, "--port", port)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 5
    (line,) = errors.splitlines()
    assert line.startswith(f"error: port {port} cannot be used (Address already in use): stop the program")
    assert f"`python -m manyheads serve --port {int(port) + 1}`" in line


def test_a_host_that_is_elsewhere_is_one_line(folder):
    process, _ = start(folder, "--host", "nowhere.invalid")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 5
    (line,) = errors.splitlines()
    assert line.startswith("error: 'nowhere.invalid' is no name of this machine")
