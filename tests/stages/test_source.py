import logging
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from manyheads.config.schema import Config
from manyheads.errors import DataError
from manyheads.paths import Paths
from manyheads.stages import source


@pytest.mark.slow
def test_sample_is_made_and_logged(
    tmp_path: Path, make_config: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config()
    with caplog.at_level(logging.INFO):
        source.run(config, Paths(tmp_path), Paths(tmp_path))
    archive = tmp_path / config.data.path
    assert zipfile.is_zipfile(archive)
    size = archive.stat().st_size / 1e6
    assert caplog.messages == [f"sample data: data/raw/sample.zip, {size:.1f} MB"]


def test_missing_archive_says_where_to_get_it(tmp_path: Path, make_config: Callable[..., Config]) -> None:
    with pytest.raises(DataError) as raised:
        source.run(make_config("data=utkface"), Paths(tmp_path), Paths(tmp_path))
    message = str(raised.value)
    assert "https://susanqq.github.io/UTKFace/" in message
    assert "non-commercial research" in message
    assert str(tmp_path / "data/raw/UTKFace.tar.gz") in message
    assert "\n" not in message
    assert not (tmp_path / "data/raw/UTKFace.tar.gz").exists()


def test_temporary_copy_uses_the_main_project(
    tmp_path: Path, make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("data=utkface")
    original = tmp_path / "project" / config.data.path
    original.parent.mkdir(parents=True)
    original.write_bytes(b"archive")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    copy = Paths(tmp_path / "copy")
    source.run(config, copy, copy)
    assert (copy.root / config.data.path).read_bytes() == b"archive"


def test_size_of_a_folder_is_that_of_its_files(
    tmp_path: Path, make_config: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data/raw/UTKFace"
    (folder / "inner").mkdir(parents=True)
    for path in (folder / "a.jpg", folder / "inner/b.jpg"):
        path.write_bytes(b"x" * 600_000)
    with caplog.at_level(logging.INFO):
        source.run(make_config("data=utkface", "data.path=data/raw/UTKFace"), Paths(tmp_path), Paths(tmp_path))
    assert caplog.messages == ["utkface data: data/raw/UTKFace, 1.2 MB"]
