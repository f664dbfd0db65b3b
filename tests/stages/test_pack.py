"""Pack: every image of the manifest is in the array or among the rejected ones, whatever its bytes are."""

import hashlib
import logging
import multiprocessing
import resource
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import compose, jpeg
from manyheads.config.schema import Config
from manyheads.data import arrays, tables
from manyheads.datasets import archives
from manyheads.errors import DataError, IntegrityError, MachineError
from manyheads.inputs import ImageInput
from manyheads.inputs.image_files import decode
from manyheads.paths import Paths
from manyheads.preprocessing import decoding
from manyheads.preprocessing.packing import encode_manifest
from manyheads.stages import pack
from real import ARCHIVE, SKIP_REASON

SIZE = 16
IMAGE = ImageInput(image_size=SIZE, duplicate_correlation=0.985)
HEADS = compose().data.heads
SETTINGS = (f"inputs.image.image_size={SIZE}", "data.path=data/raw/faces.zip")


def files_of(n: int) -> dict[str, bytes]:
    return {f"faces/{seed}_{seed % 2}_{seed % 5}_x.jpg": jpeg(seed) for seed in range(n)}


def project(root: Path, files: dict[str, bytes], notes: dict[str, str] | None = None) -> Paths:
    """Write a manifest of the ``.jpg`` files, and all files as a zip archive."""
    layout = Paths(root)
    archive = root / "data/raw/faces.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as target:
        for path, data in files.items():
            target.writestr(path, data)
    write_manifest(layout, sorted(path for path in files if path.endswith(".jpg")), notes or {})
    return layout


def write_manifest(layout: Paths, paths: list[str], notes: dict[str, str]) -> None:
    labels = [[int(label) for label in Path(path).name.split("_")[:3]] for path in paths]
    frame = pd.DataFrame(labels, columns=["age", "gender", "race"])[list(HEADS)]
    frame.insert(0, "path", paths)
    frame["note"] = [notes.get(path, "") for path in paths]
    tables.write_table(layout.manifest, frame)


def manifest_of(paths: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"path": paths, "age": 1, "race": 0, "gender": 0, "note": ""})


@pytest.fixture(autouse=True)
def no_worker_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


def test_every_image_is_packed_or_rejected(
    tmp_path: Path, make_config: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    files = files_of(8)
    first, second, third, fourth = list(files)[:4]
    files[first] = jpeg(0, "L")
    files[second] = files[second][:400]
    files[third] = b"<html>"
    files["faces/11_0_0_x.jpg"] = files[fourth]
    files["faces/readme.txt"] = b"not in the manifest"
    layout = project(tmp_path, files, notes={first: "name mended", fourth: "stamp of 16 digits"})
    with caplog.at_level(logging.INFO):
        pack.run(make_config(*SETTINGS, "data.max_reject_fraction=0.5"), layout, layout)

    manifest = tables.read_manifest(layout.manifest, HEADS)
    samples = tables.read_samples(layout.samples, HEADS)
    rejected = pd.read_csv(layout.undecodable)
    array = arrays.open_packed(layout.packed("image"), IMAGE)
    assert list(samples.columns) == ["row", "path", *HEADS, "sha256", "group", "note"]
    assert array.shape == (len(manifest), SIZE, SIZE, 3)
    assert sorted([*samples["path"], *rejected["path"]]) == sorted(manifest["path"])
    assert samples["row"].is_monotonic_increasing
    for sample in samples.itertuples():
        origin = manifest.loc[sample.row]
        assert sample.path == origin["path"]
        assert [getattr(sample, head) for head in HEADS] == origin[list(HEADS)].tolist()
        assert sample.sha256 == hashlib.sha256(files[sample.path]).hexdigest()
        assert np.array_equal(array[sample.row], decode(files[sample.path], SIZE).pixels)
    unused = np.setdiff1d(np.arange(len(manifest)), samples["row"])
    assert not array[unused].any()
    assert dict(zip(rejected["path"], rejected["code"], strict=True)) == {
        second: "DECODE_TRUNCATED",
        third: "DECODE_UNIDENTIFIED",
    }
    assert set(rejected["stage"]) == {"pack"}
    by_path = samples.set_index("path")
    assert by_path.loc[first, "note"] == "name mended; greyscale"
    assert by_path.loc[fourth, "note"] == "stamp of 16 digits"
    assert by_path.loc[fourth, "group"] == by_path.loc["faces/11_0_0_x.jpg", "group"]
    assert by_path["group"].nunique() == len(samples) - 1
    assert "1 DECODE_TRUNCATED, 1 DECODE_UNIDENTIFIED" in caplog.text
    assert "1 greyscale" in caplog.text


def test_order_of_the_source_changes_nothing(tmp_path: Path, make_config: Callable[..., Config]) -> None:
    # More than a chunk for each worker, one image twice, one that cannot be decoded.
    files = files_of(3 * decoding.CHUNK)
    paths = list(files)
    files[paths[7]] = files[paths[300]]
    files[paths[9]] = files[paths[9]][:300]
    zipped = project(tmp_path / "zipped", dict(sorted(files.items(), reverse=True)))
    folder = project(tmp_path / "folder", files)
    unpacked = folder.root / "data/raw/faces"
    unpacked.mkdir()
    for path, data in files.items():
        (unpacked.parent / path).write_bytes(data)
    pack.run(make_config(*SETTINGS), zipped, zipped)
    pack.run(make_config(*SETTINGS, "data.path=data/raw/faces"), folder, folder)
    for one, other in ((zipped.packed("image"), folder.packed("image")), (zipped.samples, folder.samples)):
        assert one.read_bytes() == other.read_bytes()
    assert zipped.undecodable.read_bytes() == folder.undecodable.read_bytes()
    assert zipped.manifest.read_bytes() == folder.manifest.read_bytes()


@pytest.mark.parametrize("limit", ["0.2", "1.0"])
def test_too_many_rejects_write_nothing(limit: str, tmp_path: Path, make_config: Callable[..., Config]) -> None:
    files = files_of(4)
    bad = list(files) if limit == "1.0" else [next(iter(files))]
    layout = project(tmp_path, files | dict.fromkeys(bad, b""))
    layout.samples.parent.mkdir()
    layout.samples.write_text("of the last run")
    with pytest.raises(DataError, match=rf"{len(bad)} of 4 .*{len(bad)} DECODE_UNIDENTIFIED.*0_0_0_x\.jpg"):
        pack.run(make_config(*SETTINGS, f"data.max_reject_fraction={limit}"), layout, layout)
    assert [path.name for path in layout.samples.parent.iterdir()] == ["samples.csv"]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["manifest.csv", "packed", "raw"]


def test_image_that_left_the_source(tmp_path: Path, make_config: Callable[..., Config]) -> None:
    layout = project(tmp_path, files_of(3))
    write_manifest(layout, [*files_of(3), "faces/9_0_0_gone.jpg"], {})
    with pytest.raises(IntegrityError, match=r"lacks 1 samples .*9_0_0_gone\.jpg.*parse"):
        pack.run(make_config(*SETTINGS), layout, layout)
    assert not layout.samples.parent.exists()


def test_empty_manifest(tmp_path: Path, make_config: Callable[..., Config]) -> None:
    layout = project(tmp_path, files_of(1))
    write_manifest(layout, [], {})
    with pytest.raises(DataError, match="no rows"):
        pack.run(make_config(*SETTINGS), layout, layout)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    contents = [("a", {"x": jpeg(0)}), ("b", PermissionError(13, "Permission denied")), ("c", {"x": jpeg(1)})]
    accepted, refused = encode_manifest(
        manifest_of(["a", "b", "c"]), contents, "x", IMAGE, tmp_path / "images.npy", tmp_path
    )
    assert [sample.row for sample in accepted] == [0, 2]
    assert refused == [(1, "IO_ERROR", "Permission denied")]


def test_interruption_leaves_nothing(
    tmp_path: Path, make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of(decoding.CHUNK + 5)
    layout = project(tmp_path, files)

    def interrupted(source: Path) -> Iterator[tuple[str, bytes]]:
        yield from islice(files.items(), decoding.CHUNK + 1)
        raise KeyboardInterrupt

    monkeypatch.setattr(archives, "contents", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack.run(make_config(*SETTINGS), layout, layout)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["manifest.csv", "raw"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX does")
def test_full_disk_changes_nothing(tmp_path: Path, make_config: Callable[..., Config]) -> None:
    layout = project(tmp_path, files_of(20))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(MachineError, match="cannot write"):
            pack.run(make_config(*SETTINGS), layout, layout)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["manifest.csv", "raw"]


def save_archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, np.zeros(3))


def save_truncated(path: Path) -> None:
    np.save(path, np.zeros((4, 8, 8, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "missing"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_bytes(b"no array"), "damaged"),
        (save_truncated, "damaged"),
        (lambda path: np.save(path, np.array([{}]), allow_pickle=True), "damaged"),
        (save_archive, "archive"),
        (lambda path: np.save(path, np.zeros((4, 8, 8, 3))), "float64"),
        (lambda path: np.save(path, np.zeros((4, 8, 9, 3), np.uint8)), r"\(4, 8, 9, 3\)"),
        (lambda path: np.save(path, np.zeros((8, 8, 3), np.uint8)), r"\(8, 8, 3\)"),
    ],
    ids=["missing", "empty", "text", "truncated", "pickle", "npz", "floats", "oblong", "one image"],
)
def test_array_that_is_not_packs(write: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    write(path)
    with pytest.raises(IntegrityError, match=rf"images\.npy.*{message}.*dvc repro pack"):
        arrays.open_packed(path, IMAGE)


def test_array_is_mapped_and_read_only(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 16, 16, 3), np.uint8))
    array = arrays.open_packed(tmp_path / "images.npy", IMAGE)
    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


@pytest.mark.slow
@pytest.mark.skipif(ARCHIVE is None, reason=SKIP_REASON)
def test_real_photographs(tmp_path: Path, make_config: Callable[..., Config]) -> None:
    with tarfile.open(ARCHIVE) as archive:
        members = islice((member for member in archive if member.isfile()), 300)
        files = {member.name: archive.extractfile(member).read() for member in members}
    layout = project(tmp_path, files)
    config = make_config(*SETTINGS, "data=utkface", "inputs.image.image_size=96")
    pack.run(config, layout, layout)
    samples = tables.read_samples(layout.samples, HEADS)
    array = arrays.open_packed(layout.packed("image"), config.inputs["image"])
    assert len(samples) == len(files) == 300
    assert array.shape == (300, 96, 96, 3)
    assert (array.reshape(300, -1).std(axis=1) > 5).all()
    assert samples["group"].nunique() > 280
