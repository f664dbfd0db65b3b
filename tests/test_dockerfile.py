"""The steps of the Dockerfile, run as a script in an empty folder: what they install serves a model."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from serving_models import ask, get, jpeg, save_untrained

PREFIX = "/opt/manyheads"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
"""That of the steps. The image's own settings keep it small; without them the packages come from the cache."""


def steps():
    """Return the instructions of the Dockerfile with their arguments."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line and not line.startswith("#")]


def copy(arguments, folder):
    *sources, target = arguments.split()
    for source in sources:
        into = folder / target / Path(source).name if target.endswith("/") else folder / target
        into.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, into, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copyfile(ROOT / source, into)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """The folder that stands for ``/opt/manyheads`` after all steps."""
    folder = tmp_path_factory.mktemp("image")
    program = str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")
    for instruction, arguments in steps():
        if instruction == "COPY":
            copy(arguments, folder)
        elif instruction == "RUN":
            command = re.sub(r"^python\b", shlex.quote(program), arguments)
            done = subprocess.run(command, shell=True, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
            if "uv.txt" in arguments and "No matching distribution found for uv" in done.stderr:
                pytest.skip("no package index can be reached")
            assert done.returncode == 0, f"{arguments}\n{done.stderr[-3000:]}"
    return folder


@pytest.mark.slow
def test_the_image_holds_the_project_and_nothing_of_this_clone(prefix):
    code = "import manyheads, hydra_plugins; print(manyheads.__file__)"
    where = subprocess.run([prefix / "bin/python", "-c", code], cwd=prefix, capture_output=True, text=True, check=True)
    assert where.stdout.startswith(str(prefix / "lib"))
    for template in (ROOT / "src/manyheads").rglob("templates/*"):
        if template.is_file():
            assert (Path(where.stdout.strip()).parent / template.relative_to(ROOT / "src/manyheads")).is_file()


@pytest.mark.slow
def test_the_image_serves_a_model(prefix, tmp_path, tiny_config):
    """The entry point and the command of the image, with a free port and a folder of this test."""
    save_untrained(tmp_path / "model", tiny_config())
    given = {"0.0.0.0": "127.0.0.1", "8080": "0", "/model": str(tmp_path / "model")}
    instructions = dict(steps())
    words = [given.get(word, word) for name in ("ENTRYPOINT", "CMD") for word in json.loads(instructions[name])]
    server = subprocess.Popen(
        [prefix / words[0], *words[1:]], cwd=prefix, env=ENVIRONMENT | {"HOME": str(tmp_path)},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        port = int(server.stdout.readline().rpartition(":")[2])
        status, answer = ask(port, jpeg())
        assert (status, set(answer["heads"])) == (200, {"age", "race", "gender"})
        assert "<!doctype html>" in get(port, "/").lower()
    finally:
        server.terminate()
        server.communicate(timeout=60)
    assert server.returncode == 0


def test_the_context_of_the_image_is_what_its_steps_copy():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for name, arguments in steps() if name == "COPY" for source in arguments.split()[:-1]}
    assert copied == allowed
    assert ("WORKDIR", PREFIX) in steps()
