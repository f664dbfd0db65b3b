"""Commands in forks of a process that has imported TensorFlow, which takes five seconds."""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

LIBRARIES = (
    *("keras", "mlflow.keras", "mlflow.pyfunc", "mlflow.tracing.processor.base_mlflow"),
    *("mlflow.store.tracking.sqlalchemy_store", "pandas", "pandera.strategies.pandas_strategies", "sklearn.metrics"),
    *("hydra", "pydantic", "plotly.graph_objects", "jinja2", "git", "filelock", "PIL.ImageDraw", "pyarrow.parquet"),
)
# Starts in 20 ms. Its connection ends with it, by whatever signal, and so the server knows its end.
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
if sys.argv[1:3] != ["-m", "manyheads"] and sys.argv[1:2] != ["-c"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2])
connection.sendall(request)
process = int.from_bytes(connection.recv(8), "big")
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.kill(process, number))
answer = connection.recv(8)
sys.exit(int.from_bytes(answer, "big") if answer else "the server of forks has died")
"""


@contextmanager
def forking_python() -> Iterator[str]:
    """Yield a program that stands for Python and forks ``-m manyheads ...`` and ``-c ...`` from a process that waits.

    Such a command has its own arguments, folder, environment and files. It imports manyheads from its ``PYTHONPATH``.
    Its exit code is the program's. It gets each SIGINT and SIGTERM of the program, and is killed when the program is.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    with tempfile.TemporaryDirectory() as name:
        address, program, log = (Path(name, each) for each in ("socket", "python", "log"))
        program.write_text(CLIENT.format(python=sys.executable, address=str(address)))
        program.chmod(0o755)
        command = [sys.executable, __file__, str(address)]
        with (
            log.open("w") as errors,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                start_new_session=True,
            ) as server,
        ):
            assert server.stdout.readline() == b"ready\n", log.read_text()
            yield str(program)


def serve(address: str) -> None:
    """Answer requests until standard input ends, which is when the tests end."""
    from mlflow.utils.requirements_utils import _init_packages_to_modules_map

    for name in LIBRARIES:
        __import__(name)
    _init_packages_to_modules_map()  # MLflow reads the metadata of all packages before it writes a model
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)  # as in conftest.py
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        header, files, _, _ = socket.recv_fds(connection, 8, 3)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            with connection.makefile("rb") as stream:
                request = json.loads(stream.read(int.from_bytes(header, "big")))
            process = os.fork()
            if process == 0:
                connection.close()
                run(*request, files)
            os._exit(follow(connection, process))
        for file in files:
            os.close(file)
        connection.close()


def follow(connection: socket.socket, process: int) -> int:
    """Send a process's number and, at its end, its exit code; kill it if nobody waits for it."""
    connection.sendall(process.to_bytes(8, "big"))
    while not (ended := os.waitpid(process, os.WNOHANG))[0]:
        if select.select([connection], [], [], 0)[0]:
            os.kill(process, signal.SIGKILL)
            return 1
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(ended[1])
    connection.sendall((code if code >= 0 else 128 - code).to_bytes(8, "big"))
    return 0


def run(arguments: list[str], folder: str, environment: dict[str, str], files: list[int]) -> NoReturn:
    """Become the process that ``python ARGUMENTS`` would be."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.orig_argv[1:] = arguments
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:1] = [folder, *(str(Path(path).absolute()) for path in paths)]
    try:
        if arguments[0] == "-c":
            sys.argv = ["-c", *arguments[2:]]
            exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = arguments[1:]
            runpy.run_module("manyheads", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
    # Ends as Python does, but without freeing the libraries, which would copy their memory.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
