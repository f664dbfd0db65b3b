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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
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
            wait_for(lambda: answers(f"{address}/health"), "the server's answer")
            yield address
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


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
