"""Predictions of many samples: files of every kind, parts that continue, hostile folders, and memory."""

import io
import json
import os
import signal
import subprocess
import tracemalloc
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pytest
from PIL import Image

from builders import named, objective_for
from manyheads.commands import predict
from manyheads.commands.given import Given, look
from manyheads.datasets import archives
from manyheads.encoders import CompactEncoder
from manyheads.errors import ConfigError, DataError, IntegrityError, MachineError
from manyheads.heads import Binary, Box, Categorical, LabelStatistics, Regression, Vector
from manyheads.inputs import ImageInput, TextInput
from manyheads.modeling import saving
from manyheads.modeling.build import build_network
from manyheads.prediction import parts, samples, writing
from manyheads.runtime import tensorflow
from manyheads.runtime.locks import exclusive_lock

IMAGES = {"image": ImageInput(image_size=16, duplicate_correlation=1)}
HEADS = named(
    {
        "age": Regression(unit="years", minimum=0, maximum=116),
        "race": Categorical(classes=("a", "b", "None")),
        "gender": Binary(classes=("male", "female")),
        "place": Vector(unit="metres", width=2, minimum=-10, maximum=10),
        "object": Box(),
    }
)
LOSSES = {
    "age": "gaussian",
    "race": "categorical_crossentropy",
    "gender": "binary_crossentropy",
    "place": "mae",
    "object": "mae",
}
STATISTICS = {
    "age": LabelStatistics(30.0, 10.0),
    "race": LabelStatistics(),
    "gender": LabelStatistics(),
    "place": LabelStatistics(centers=(0.0, 0.0), spreads=(1.0, 1.0)),
    "object": LabelStatistics(centers=(0.0,) * 4, spreads=(1.0,) * 4),
}


def save(folder, seed):
    tensorflow.require_tensorflow()
    import keras

    keras.utils.set_random_seed(seed)
    folder.mkdir()
    encoder = CompactEncoder(stem=(8,), widths=(8,), blocks=(1,), dropout=0)
    network = build_network(encoder, objective_for(HEADS, LOSSES, STATISTICS), IMAGES, folded=True)
    saving.save(folder, network, saving.ModelCard(data="sample", inputs=IMAGES, heads=HEADS))
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "model", 1)


@pytest.fixture
def small_parts(monkeypatch):
    """Make parts of 128 samples in two tables."""
    monkeypatch.setattr(parts, "SAMPLES", 128)
    monkeypatch.setattr(predict, "MOST_BATCHES", 1)


def jpeg(seed=0):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


def make_photos(folder, count, unreadable=()):
    """Write pictures of which some are no pictures: ``0000.jpg`` and so on."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:04d}.jpg").write_bytes(b"<html>" if number in unreadable else jpeg(number))
    return folder


def run(saved, *paths, output, **options):
    predict.main([*map(str, paths), "--model", str(saved), "--output", output])


def in_parts(folder):
    return sorted(path.name for path in folder.glob("part-*"))


def assert_same_figures(csv, other):
    """Assert that a table of Parquet holds what the cells of a CSV say."""
    cells = pd.read_csv(csv, dtype=str, keep_default_na=False)
    assert list(cells) == list(other)
    shown = (
        other.astype(object)
        .where(other.notna(), "")
        .map(lambda value: value if isinstance(value, str) else repr(value))
    )
    pd.testing.assert_frame_equal(cells, shown, check_dtype=False)


def test_csv_parquet_and_parts_hold_the_same_figures(saved, tmp_path, small_parts):
    photos = make_photos(tmp_path / "photos", 300, unreadable=[*range(128, 256), 3, 290])
    for name in ("one.csv", "one.parquet", "parts/"):
        run(saved, photos, output=f"{tmp_path}/{name}")
    parquet = pd.read_parquet(tmp_path / "one.parquet")
    assert list(parquet) == [
        "path", "age", "age_low", "age_high", "race", "race_a", "race_b", "race_None", "gender", "gender_male",
        "gender_female", "place_0", "place_1", "object_left", "object_top", "object_width", "object_height",
        "note", "error",
    ]  # fmt: skip
    assert_same_figures(tmp_path / "one.csv", parquet)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "parts"), parquet)
    assert parquet["error"].map(bool).sum() == 130


def test_every_part_has_the_same_columns_and_types(saved, tmp_path, small_parts):
    photos = make_photos(tmp_path / "photos", 300, unreadable=range(128, 256))
    run(saved, photos, output=f"{tmp_path}/parts/")
    files = [tmp_path / "parts" / name for name in in_parts(tmp_path / "parts")]
    assert [path.name for path in files] == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    schemas = [pa.parquet.read_schema(path) for path in files]
    assert schemas[0] == schemas[1] == schemas[2]
    numbers = {name for name, kind in zip(schemas[0].names, schemas[0].types, strict=True) if kind == pa.float64()}
    assert set(schemas[0].names) - numbers == {"path", "race", "gender", "note", "error"}
    assert pa.dataset.dataset(tmp_path / "parts").count_rows() == 300
    assert pd.read_parquet(files[1])["age"].isna().all()
    summary = json.loads((tmp_path / "parts/_summary.json").read_text())
    assert summary == {
        "rows": 300,
        "predicted": 172,
        "unreadable": 128,
        "unreadable_by_code": {"DECODE_UNIDENTIFIED": 128},
        "noted": 0,
    }


class Whole(Regression):
    """A regression whose column has whole numbers."""

    def prediction_columns(self, outputs):
        return {self.name: np.rint(self.values(outputs)).astype(np.int64)}


def test_whole_numbers_stay_whole_beside_what_cannot_be_read(saved, tmp_path):
    loaded = saving.load(saved)
    heads = HEADS | {"age": Whole(name="age", unit="years", minimum=0, maximum=116)}
    card = loaded.card.model_copy(update={"heads": heads})
    members = [("one.jpg", {"image": jpeg(1)}), ("broken.jpg", {"image": b"<html>"})]
    with predict.predicting(card, lambda: loaded._replace(card=card), Given(iter(members), None)) as predictions:
        tables = [table for part in predictions.parts for table in part]
        writing.write_parquet(tmp_path / "out.parquet", tables, predictions.schema)
    written = pa.parquet.read_table(tmp_path / "out.parquet")
    assert written.schema.field("age").type == pa.int64()
    with (tmp_path / "out.csv").open("w") as file:
        writing.write_csv(file, tables)
    assert_same_figures(tmp_path / "out.csv", written.to_pandas(integer_object_nulls=True))


def test_the_output_is_of_a_known_kind(saved, tmp_path):
    with pytest.raises(ConfigError, match=r"table.txt: end the name in \.csv or \.parquet, or in / for a folder"):
        run(saved, tmp_path, output="table.txt")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("")
    photos = make_photos(tmp_path / "photos", 1)
    with pytest.raises(DataError, match="notes has other files than predictions: name a folder that is empty"):
        run(saved, photos, output=str(tmp_path / "notes"))


CODE = """
import os, signal, sys
from manyheads.commands import predict
from manyheads.prediction import parts
parts.SAMPLES, predict.MOST_BATCHES = 128, 1
tables = iter(range(int(sys.argv.pop(1))))
def stop():
    if next(tables, None) is None:
        os.kill(os.getpid(), signal.Signals[sys.argv[1]])
predict.raise_if_interrupted = stop
from manyheads.__main__ import main
main(["predict", *sys.argv[2:]])
"""


def stopped(python, after, signal_name, *arguments):
    """Run the command until it has begun a number of tables, and return how it ended."""
    command = [python, "-c", CODE, str(after), signal_name, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "tar"])
def test_a_killed_run_continues_at_the_last_whole_part(packed, saved, tmp_path, small_parts, warm_python):
    photos = make_photos(tmp_path / "photos", 600, unreadable=(5, 300))
    given = photos
    if packed:
        given = tmp_path / "photos.tar.gz"
        subprocess.run(["tar", "-czf", given, "-C", tmp_path, "photos"], check=True)
    there = tmp_path / "parts"
    arguments = [given, "--model", saved, "--output", f"{there}/"]
    assert stopped(warm_python, 5, "SIGKILL", *arguments).returncode == 128 + signal.SIGKILL
    assert in_parts(there) == ["part-00000.parquet", "part-00001.parquet"]
    assert list(there.glob(".part-00002.parquet.*.tmp"))
    if not packed:
        for number in range(256):  # what is done is not read again
            (photos / f"{number:04d}.jpg").write_bytes(b"")
    interrupted = stopped(warm_python, 3, "SIGINT", *arguments)
    assert interrupted.returncode == 130
    assert "the same command continues" in interrupted.stderr
    assert "Traceback" not in interrupted.stderr
    assert in_parts(there)[-1] == "part-00002.parquet"
    run(saved, given, output=f"{there}/")
    for number in range(256):
        (photos / f"{number:04d}.jpg").write_bytes(b"<html>" if number == 5 else jpeg(number))
    run(saved, given, output=f"{tmp_path}/whole/")
    for path in (tmp_path / "whole").glob("[_p]*"):
        assert path.read_bytes() == (there / path.name).read_bytes(), path.name
    assert sorted(path.name for path in there.glob("[_p]*")) == sorted(
        path.name for path in (tmp_path / "whole").glob("[_p]*")
    )
    assert not list(there.glob(".part*"))
    assert json.loads((there / "_summary.json").read_text())["predicted"] == 598


def test_what_is_complete_is_not_predicted_again(saved, tmp_path, monkeypatch, caplog):
    photos = make_photos(tmp_path / "photos", 3)
    run(saved, photos, output=f"{tmp_path}/parts/")
    monkeypatch.setattr(saving, "load", lambda *_: pytest.fail("the model was loaded"))
    with caplog.at_level("INFO"):
        run(saved, photos, output=f"{tmp_path}/parts")
    assert "parts is complete; delete it to predict again" in caplog.text
    assert "predicted 3 samples, 0 could not be read" in caplog.text
    summary = tmp_path / "parts/_summary.json"
    before = summary.read_text()
    summary.unlink()  # as if the command had been killed before it wrote the summary
    run(saved, photos, output=f"{tmp_path}/parts")
    assert summary.read_text() == before


def test_parts_of_another_model_or_other_samples_are_not_continued(saved, tmp_path, monkeypatch):
    photos = make_photos(tmp_path / "photos", 3)
    there = f"{tmp_path}/parts/"
    run(saved, photos, output=there)
    before = (tmp_path / "parts/part-00000.parquet").read_bytes()
    with pytest.raises(IntegrityError, match=r"parts holds predictions with other model .*: name another folder, or d"):
        run(save(tmp_path / "other", 2), photos, output=there)
    with pytest.raises(IntegrityError, match="with other paths"):
        run(saved, photos, photos, output=there)
    with (
        monkeypatch.context() as patch,
        pytest.raises(IntegrityError, match=r"with other samples of a part \(12800, not"),
    ):
        patch.setattr(parts, "SAMPLES", 64)
        run(saved, photos, output=there)
    with monkeypatch.context() as patch, pytest.raises(IntegrityError, match="with other versions"):
        patch.setattr(parts, "PACKAGES", ("numpy",))
        run(saved, photos, output=there)
    with (
        exclusive_lock(tmp_path / "parts/.lock", "writes"),
        pytest.raises(MachineError, match="another process writes"),
    ):
        run(saved, photos, output=there)
    (photos / "0001.jpg").rename(photos / "0007.jpg")
    with pytest.raises(IntegrityError, match="with other samples "):
        run(saved, photos, output=there)
    assert (tmp_path / "parts/part-00000.parquet").read_bytes() == before


def test_a_damaged_part_is_named_and_made_again_when_it_is_deleted(saved, tmp_path):
    photos = make_photos(tmp_path / "photos", 3)
    run(saved, photos, output=f"{tmp_path}/parts/")
    part = tmp_path / "parts/part-00000.parquet"
    before = part.read_bytes()
    part.write_bytes(before[:-9])
    with pytest.raises(IntegrityError, match=r"part-00000\.parquet is damaged .*: delete it, and the same command"):
        run(saved, photos, output=f"{tmp_path}/parts/")
    part.unlink()
    run(saved, photos, output=f"{tmp_path}/parts/")
    assert part.read_bytes() == before


def rows_of(saved, *paths):
    """Return the error of each path."""
    output = paths[0].parent / "rows.csv"
    run(saved, *paths, output=str(output))
    return pd.read_csv(output, keep_default_na=False).set_index("path")["error"].to_dict()


def test_hidden_files_are_left_out_and_counted(saved, tmp_path, caplog):
    photos = make_photos(tmp_path / "photos", 1)
    for name in (".thumbnails/a.jpg", "b/.cache/c/d.jpg", "__MACOSX/e.jpg", "._0000.jpg", ".f.jpg", ".DS_Store"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(jpeg())
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in sorted(photos.rglob("*.*")):
            if path.is_file():
                archive.write(path, path.relative_to(tmp_path))
    for given in (photos, tmp_path / "photos.zip"):
        caplog.clear()
        with caplog.at_level("INFO"):
            assert rows_of(saved, given) == {"photos/0000.jpg": ""}
        assert f"{given}: 6 hidden files are not read" in caplog.text
    photos.rename(tmp_path / ".photos")
    assert rows_of(saved, tmp_path / ".photos") == {".photos/0000.jpg": ""}


def test_hostile_files_of_a_folder_have_a_row_each_and_nothing_outside_is_read(saved, tmp_path, monkeypatch):
    photos = make_photos(tmp_path / "photos", 1)
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(jpeg(1))
    (photos / "link.jpg").symlink_to(outside)
    (photos / "loop").symlink_to(photos)
    (photos / "nothing.jpg").symlink_to("nowhere")
    os.mkfifo(photos / "pipe.jpg")
    (photos / "folder.jpg").mkdir()
    (photos / "folder.jpg/inside.jpg").write_bytes(jpeg(2))
    with (photos / "huge.jpg").open("wb") as file:
        file.truncate(archives.MAX_MEMBER_BYTES + 1)
    (photos / "bomb.jpg").write_bytes(jpeg().replace(b"\x00\x14\x00\x14", b"\xff\xff\xff\xff", 1))
    link, pipe = (
        "IO_ERROR: a symbolic link, which is not read",
        "IO_ERROR: neither a file nor a folder, which is not read",
    )
    errors = rows_of(saved, photos)
    assert errors.pop("photos/bomb.jpg").startswith("PIXELS_LIMIT: ")
    assert errors == {
        "photos/0000.jpg": "",
        "photos/huge.jpg": "IO_ERROR: is larger than 64 MiB",
        "photos/link.jpg": link,
        "photos/nothing.jpg": link,
        "photos/pipe.jpg": pipe,
        "photos/folder.jpg/inside.jpg": "",
    }
    alone = rows_of(saved, photos / "pipe.jpg", photos / "link.jpg")
    assert alone == {str(photos / "pipe.jpg"): pipe, str(photos / "link.jpg"): ""}


def test_a_table_names_no_file_outside_of_its_folder(saved, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/in.jpg").write_bytes(jpeg())
    (tmp_path / "out.jpg").write_bytes(jpeg())
    (tmp_path / "there/link.jpg").symlink_to(tmp_path / "out.jpg")
    os.mkfifo(tmp_path / "there/pipe.jpg")
    table = tmp_path / "there/table.csv"
    table.write_text("image\nin.jpg\nlink.jpg\npipe.jpg\n../out.jpg\n")
    errors = [error.partition(":")[0] for error in rows_of(saved, table).values()]
    assert errors == ["", "IO_ERROR", "IO_ERROR", "IO_ERROR"]


def test_a_bomb_ends_the_command_with_its_name(saved, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.jpg", bytes(archives.RATIO_FREE_BYTES + 2**20))
    with pytest.raises(IntegrityError, match=r"bomb\.zip unpacks to more than 200 times its size"):
        run(saved, tmp_path / "bomb.zip", output=str(tmp_path / "out.csv"))
    assert not (tmp_path / "out.csv").exists()


TEXTS = {"text": TextInput(vocabulary=100, length=8)}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_is_read_in_pieces_and_its_rows_are_skipped(suffix, tmp_path, monkeypatch):
    path = tmp_path / f"texts.{suffix}"
    frame = pd.DataFrame({"text": [f"number {number}" for number in range(95)]})
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    monkeypatch.setattr("manyheads.datasets.table.ROWS_AT_ONCE", 10)
    looked = look([path], TEXTS, {})
    assert looked.total == 95
    assert list(looked.samples().members) == [
        (f"texts.{suffix}/{number + 1:06d}", {"text": f"number {number}".encode()}) for number in range(95)
    ]
    rest = looked.samples(37)
    assert rest.total == 58
    assert next(rest.members)[0] == f"texts.{suffix}/000038"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_samples(saved, tmp_path, monkeypatch):
    """The peaks of what Python allocates; a million rows of either size would take hundreds of MiB."""
    monkeypatch.setattr(samples, "BYTES_AHEAD", 2**20)
    monkeypatch.setattr(parts, "SAMPLES", 512)
    loaded = saving.load(saved)
    data = jpeg()

    def peak(count):
        members = ((f"{number}.jpg", {"image": data}) for number in range(count))
        tracemalloc.start()
        with predict.predicting(loaded.card, lambda: loaded, Given(members, count)) as predictions:
            for number, tables in enumerate(predictions.parts):
                writing.write_parquet(tmp_path / f"{number}.parquet", tables, predictions.schema)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(600)
    assert peak(4000) < 1.5 * peak(1000)


def test_memory_does_not_grow_with_the_rows_of_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr("manyheads.datasets.table.ROWS_AT_ONCE", 100)

    def peak(path):
        looked = look([path], TEXTS, {})
        tracemalloc.start()
        count = sum(1 for _ in looked.samples().members)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return count, most

    for suffix in ("csv", "parquet"):
        peaks = []
        for count in (1000, 5000):
            path = tmp_path / f"{count}.{suffix}"
            frame = pd.DataFrame({"text": [f"{number}{' word' * 200}" for number in range(count)]})
            frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
            found, most = peak(path)
            assert found == count
            peaks.append(most)
        assert peaks[1] - peaks[0] < 1_000_000  # the larger table has 4 million bytes more
