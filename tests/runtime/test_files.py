import errno
import hashlib
import os
import platform
import resource
import signal
import subprocess

import pytest

from manyheads.errors import MachineError
from manyheads.runtime.files import atomic_write, json_digest, sha256_of, write_text


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "folder/table.csv"
    with pytest.raises(ValueError, match="half way"), atomic_write(target) as temporary:
        temporary.write_text("half")
        raise ValueError("half way")
    assert list(target.parent.iterdir()) == []
    with atomic_write(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"


def test_the_old_file_stays_when_the_new_one_fails(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(target) as temporary:
        temporary.write_text("new")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_replaces_the_one_before(tmp_path):
    target = tmp_path / "models"
    for content in ("first", "second"):
        with atomic_write(target) as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["second"]


def test_a_full_disk_names_the_file_and_changes_nothing(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(MachineError, match=r"cannot write .*table\.csv: File too large; nothing was changed"):
            write_text(target, "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_process_left_goes_at_the_next_write_and_what_others_write_stays(tmp_path):
    target = tmp_path / "table.csv"
    ended = subprocess.Popen(["true"])
    ended.wait()
    here = platform.node()
    names = {
        "dead": f".table.csv.{here}.{ended.pid}.tmp",
        "living": f".table.csv.{here}.{os.getppid()}.tmp",
        "of another machine": f".table.csv.other-{here}.{ended.pid}.tmp",
        "of another file": f".table.csv.gz.{here}.{ended.pid}.tmp",
    }
    for name in names.values():
        (tmp_path / name).write_text("half")
    write_text(target, "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", *names.values()} - {names["dead"]}


def test_a_folder_that_cannot_be_written_is_named_even_if_nothing_can_be_cleaned_up(tmp_path, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.unlink", read_only)
    monkeypatch.setattr("pathlib.Path.write_text", read_only)
    with pytest.raises(MachineError, match=r"cannot write .*table\.csv: Read-only file system; nothing was changed"):
        write_text(tmp_path / "table.csv", "x")


def test_digest(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()


def test_the_digest_of_data_does_not_depend_on_the_order_of_keys():
    assert json_digest({"a": 1, "b": [2]}, 24) == json_digest({"b": [2], "a": 1}, 24)
    assert json_digest({"a": 1}, 8) == hashlib.sha256(b'{"a": 1}').hexdigest()[:8]
    assert json_digest([1, 2], 8) != json_digest([2, 1], 8)
