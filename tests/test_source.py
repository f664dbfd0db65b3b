import pytest

from manyheads.errors import DataError
from manyheads.layout import Layout
from manyheads.stages import source


def test_the_sample_is_drawn(make_config, tmp_path):
    source.run(make_config(), Layout(tmp_path), Layout(tmp_path))
    assert (tmp_path / "data/raw/sample.zip").stat().st_size > 1_000_000


def test_missing_photographs_are_asked_for_with_place_and_terms(make_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        source.run(make_config("data=utkface"), Layout(tmp_path), Layout(tmp_path))
    message = str(caught.value)
    assert "data/raw/UTKFace.tar.gz" in message
    assert "https://susanqq.github.io/UTKFace/" in message
    assert "non-commercial research" in message
    assert "data=sample" in message
    assert "\n" not in message
    assert not (tmp_path / "data").exists()


def test_a_temporary_copy_of_the_project_uses_the_main_ones_raw_data(make_config, tmp_path, monkeypatch):
    main, copy = tmp_path / "main", tmp_path / "copy"
    (main / "data/raw").mkdir(parents=True)
    (main / "data/raw/UTKFace.tar.gz").write_bytes(b"archive")
    copy.mkdir()
    monkeypatch.setenv("DVC_ROOT", str(main))
    source.run(make_config("data=utkface"), Layout(copy), Layout(copy))
    assert (copy / "data/raw/UTKFace.tar.gz").read_bytes() == b"archive"
    source.run(make_config("data=utkface"), Layout(main), Layout(main))
    assert not (main / "data/raw/UTKFace.tar.gz").is_symlink()
