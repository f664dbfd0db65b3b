"""A real MLflow server for tests."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 400


@contextmanager
def mlflow_server(folder: Path, store: Path) -> Iterator[str]:
    """Serve a SQLite store, new or old, and artifacts below a folder; yield the address."""
    port = free_port()
    process = start_mlflow_server(folder, store, port)
    try:
        yield address_of(port)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def start_mlflow_server(folder: Path, store: Path, port: int) -> subprocess.Popen[bytes]:
    """Start a server, in a session of its own, and return its process when it answers."""
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{store}"),
        *("--serve-artifacts", "--artifacts-destination", str(folder / "artifacts")),
    ]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_for(lambda: answers(f"{address_of(port)}/health"), "the server's answer")
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def address_of(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def answers(address: str) -> bool:
    """Return whether a page is there."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Return the first answer of a condition that is true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come in {PATIENCE} s")
