"""The MLflow UI as a server of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from manyheads.errors import MachineError
from manyheads.tracking.store import tracking_uri

HOST = "127.0.0.1"
STOP_SECONDS = 10

SETTINGS = {
    # The server would otherwise start five processes that queue jobs of language models.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # Of MLflow's own code, which a user of it cannot change.
    "PYTHONWARNINGS": "ignore",
}


@contextmanager
def serving(root: Path, port: int) -> Iterator[Callable[[], int]]:
    """Serve the MLflow UI of the project's store until the body ends.

    Args:
        root: The project's root folder.
        port: Port to listen at.

    Yields:
        Waits for the end of the server and returns its exit status. The server answers from now on.

    Raises:
        MachineError: The server ended before it answered.
    """
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", tracking_uri(root), "--uvicorn-opts", "--log-level warning"),
    ]
    log = root / ".cache/ui.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("w") as file:
        server = subprocess.Popen(
            command, cwd=root, env={**os.environ, **SETTINGS}, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        while not _answers(port):
            try:
                server.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            raise MachineError(f"the MLflow server ended with status {server.returncode}: see {log}")
        yield server.wait
    finally:
        server.terminate()
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
