"""Decoding in processes: a sample that ends or hangs its process is the only one that is lost."""

import functools
import importlib
import multiprocessing
import os
import subprocess
import sys
import time
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest

from conftest import jpeg
from manyheads.data.arrays import open_packed
from manyheads.errors import MachineError
from manyheads.inputs import ImageInput
from manyheads.inputs.image_files import decode
from manyheads.preprocessing import decoding
from manyheads.preprocessing.decoding import Packed, Raw, Refused, Sample

SIZE = 16
IMAGE = ImageInput(image_size=SIZE, duplicate_correlation=0.985)

KILLER = b"this one ends its process"
SLEEPER = b"this one never ends"

# A module of its own, because workers import the decoder, and importing this file takes a second.
MORTAL = f"""
import os, time
from manyheads.inputs import ImageInput

class Mortal(ImageInput):
    def encode(self, data):
        if data == {KILLER!r}:
            os._exit(7)
        if data == {SLEEPER!r}:
            time.sleep(600)
        return super().encode(data)
"""


@pytest.fixture
def mortal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageInput]:
    """Return an input whose decoder dies on one image and hangs on another, in a module that workers can import."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "mortal.py").write_text(MORTAL)
    monkeypatch.syspath_prepend(folder)
    yield importlib.import_module("mortal").Mortal(image_size=SIZE, duplicate_correlation=0.985)
    sys.modules.pop("mortal")


@pytest.fixture(autouse=True)
def no_worker_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_sample_that_ends_or_hangs_its_process_is_the_only_one_lost(tmp_path: Path, mortal: ImageInput) -> None:
    n = decoding.CHUNK + 20
    raw = [Raw(row, jpeg(row)) for row in range(n)]
    raw[5], raw[n - 3] = Raw(5, KILLER), Raw(n - 3, SLEEPER)
    target = tmp_path / "image.npy"
    outcomes = list(decoding.encode_into(target, n, raw, mortal, timeout=2))
    assert [outcome.row for outcome in outcomes] == list(range(n))
    refused = [outcome for outcome in outcomes if not isinstance(outcome, Packed)]
    assert [(row, code) for row, code, _ in refused] == [(5, "DECODE_CRASHED"), (n - 3, "DECODE_TIMEOUT")]
    array = open_packed(target, IMAGE)
    for row in (4, 6, n - 4, n - 1):
        assert np.array_equal(array[row], decode(raw[row].data, SIZE).pixels)
    assert not array[[5, n - 3]].any()


def test_every_input_is_decoded_or_the_sample_refused(tmp_path: Path, mortal: ImageInput) -> None:
    data = [{"image": jpeg(0)}, {"image": b"<html>"}, PermissionError(13, "Permission denied"), {"image": KILLER}]
    raw = [Raw(row, each) for row, each in enumerate(data)]
    first, *refused = decoding.in_processes(raw, functools.partial(decoding.decode, {"image": mortal}))
    assert isinstance(first, Sample)
    assert first.row == 0
    assert np.array_equal(first.inputs["image"], decode(jpeg(0), SIZE).pixels)
    assert [(each.row, each.code) for each in refused if isinstance(each, Refused)] == [
        (1, "DECODE_UNIDENTIFIED"), (2, "IO_ERROR"), (3, "DECODE_CRASHED"),
    ]  # fmt: skip


@pytest.mark.slow
def test_workers_that_always_die_are_the_machines_fault(
    tmp_path: Path, mortal: ImageInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MAX_LOST_WORKERS", 1)
    raw = [Raw(row, KILLER) for row in range(5)]
    with pytest.raises(MachineError, match="2 decoding processes died"):
        list(decoding.encode_into(tmp_path / "image.npy", 5, raw, mortal))


def test_workers_that_cannot_start_their_work_are_the_machines_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(chunk: Sequence[Raw]) -> list[Refused]:
        raise NotImplementedError

    # A function that this process can name and no other can import.
    module = types.ModuleType("nowhere_else")
    module.work = work
    work.__module__, work.__qualname__ = "nowhere_else", "work"
    monkeypatch.setitem(sys.modules, "nowhere_else", module)
    with pytest.raises(MachineError, match="decoding processes cannot start"):
        list(decoding.in_processes([Raw(0, b"")], work))


KILLED = f"""
import sys
from pathlib import Path
import mortal
from manyheads.preprocessing import decoding

if __name__ == "__main__":
    raw = [decoding.Raw(0, {SLEEPER!r})]
    list(decoding.encode_into(Path("image.npy"), 1, raw, mortal.Mortal(image_size=16, duplicate_correlation=0.985)))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")
def test_workers_do_not_outlive_a_killed_process(tmp_path: Path, mortal: ImageInput) -> None:
    (tmp_path / "script.py").write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, env=environment)
    deadline = time.monotonic() + 60
    while not (workers := psutil.Process(run.pid).children()) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)  # until the work has begun
    workers = psutil.Process(run.pid).children()
    run.kill()
    run.wait()
    gone, alive = psutil.wait_procs(workers, timeout=20)
    assert gone
    assert not alive
