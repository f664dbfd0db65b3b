"""A Python that does not know the project, and MLflow's server of a model in it, for tests."""

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow_servers import answers, wait_for


def python_without_project(folder: Path) -> Path:
    """Make an environment with all packages but the project in a new folder, and return its ``bin/python``."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site_packages,) = folder.glob("lib/python3*/site-packages")
    # Python reads no .pth files of a folder that a .pth file names; one of them would add the project.
    (site_packages / "packages.pth").write_text(sysconfig.get_path("purelib"))
    python, uvicorn = folder / "bin/python", folder / "bin/uvicorn"
    uvicorn.write_text(f"#!{python}\nimport sys\nfrom uvicorn.main import main\nsys.exit(main())\n")
    uvicorn.chmod(0o755)
    found = subprocess.run(
        [python, "-c", "import manyheads"], cwd=folder, env=_environment(python), capture_output=True
    )
    assert b"No module named 'manyheads'" in found.stderr
    return python


def _environment(python: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {
        "PATH": f"{python.parent}:{kept['PATH']}",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }


ANSWER = """
import sys, mlflow, pandas as pd
for model, frame, table in zip(*[iter(sys.argv[1:])] * 3):
    mlflow.pyfunc.load_model(model).predict(pd.read_pickle(frame)).to_csv(table, index=False)
import manyheads
print(manyheads.__file__)
"""


def answer_elsewhere(python: Path, folder: Path, jobs: Sequence[tuple[Path, Path, Path]]) -> str:
    """Let models of MLflow answer in a fresh process, and return the path of the package that it imported.

    Args:
        python: From ``python_without_project``.
        folder: The process's working directory.
        jobs: Folder of a model, pickled data frame, and CSV to write.
    """
    command = [python, "-W", "ignore", "-c", ANSWER, *(str(path) for job in jobs for path in job)]
    done = subprocess.run(command, cwd=folder, env=_environment(python), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@contextmanager
def model_server(python: Path, folder: Path, model: str, store: str = "") -> Iterator[str]:
    """Serve a model by ``mlflow models serve --env-manager local``; yield the address, which may not answer yet.

    Args:
        python: From ``python_without_project``.
        folder: A folder for the log.
        model: The model's address or folder.
        store: Address of the store.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [python, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local", "--port", str(port)]
    environment = _environment(python) | ({"MLFLOW_TRACKING_URI": store} if store else {})
    with (folder / f"serve-{port}.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def ask(address: str, records: Sequence[Mapping[str, Any]]) -> tuple[int, Any]:
    """Post records to a server of a model; return the status, and the predictions or the message."""
    wait_for(lambda: answers(f"{address}/ping"), "the model's server")
    request = urllib.request.Request(
        f"{address}/invocations",
        json.dumps({"dataframe_records": list(records)}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)["predictions"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["message"]
