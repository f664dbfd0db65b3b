import hashlib
import resource
import signal

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


def test_digest(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()


def test_the_digest_of_data_does_not_depend_on_the_order_of_keys():
    assert json_digest({"a": 1, "b": [2]}, 24) == json_digest({"b": [2], "a": 1}, 24)
    assert json_digest({"a": 1}, 8) == hashlib.sha256(b'{"a": 1}').hexdigest()[:8]
    assert json_digest([1, 2], 8) != json_digest([2, 1], 8)
