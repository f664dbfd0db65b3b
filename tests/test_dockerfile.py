"""The steps of the Dockerfile, run as a script in an empty folder: what they install serves a model."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

PREFIX = "/opt/manyheads"
SETTINGS_OF_THE_IMAGE = ("PIP_", "UV_")  # they keep an image small; here the packages come from the cache


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
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    program = str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")
    for instruction, arguments in steps():
        if instruction == "COPY":
            copy(arguments, folder)
        elif instruction == "RUN":
            command = re.sub(r"^python\b", shlex.quote(program), arguments)
            done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
            if "uv.txt" in arguments and done.returncode:
                pytest.skip(f"no package index: {done.stderr[-200:]}")
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


def test_the_context_of_the_image_is_what_its_steps_copy():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for name, arguments in steps() if name == "COPY" for source in arguments.split()[:-1]}
    assert copied == allowed
    assert ("WORKDIR", PREFIX) in steps()
