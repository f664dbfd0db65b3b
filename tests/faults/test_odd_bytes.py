"""Faults that one does not think of: odd files, odd numbers and many names, each with what must come of it."""

import io
import json
import re
import shutil
import struct
import tarfile
import tracemalloc
import zipfile
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dvc.utils.hydra import compose_and_dump
from PIL import Image

from conftest import ROOT, compose
from manyheads.config import composition, loading
from manyheads.data.arrays import open_packed
from manyheads.datasets import archives, table_contents
from manyheads.datasets.coco import DATASET as COCO
from manyheads.errors import ConfigError, DataError, IntegrityError, Unreadable
from manyheads.heads import Categorical, Regression
from manyheads.inputs import ImageInput, NumbersInput, TextInput
from manyheads.paths import Paths
from manyheads.stages import parse
from manyheads.training import checkpoint

IMAGE = ImageInput(image_size=16, duplicate_correlation=0.9)
HOSTILE = ["=cmd()|{i}.jpg", "<script>{i}.jpg", "\"'%{i}.jpg", "new\nline{i}.jpg", "\x1b[2J{i}.jpg", "\udcff{i}.jpg"]


def names(count):
    for i in range(count):
        hostile = i % 100 == 0
        yield HOSTILE[i // 100 % 6].format(i=i) if hostile else f"{i % 100}_{i % 2}_{i % 5}_{20170101000000000 + i}.jpg"


def test_row_25_many_names_take_linear_memory_and_each_is_accounted_for(tmp_path):
    """A million took a gigabyte, and and time in proportion to the names."""
    count = 10_000
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for name in names(count):
            archive.addfile(tarfile.TarInfo(f"UTKFace/{name}"))
            archive.members.clear()  # tarfile keeps all headers in memory
    config = compose("data=utkface", "data.path=set.tar", "data.max_reject_fraction=0.02")
    layout = Paths(tmp_path)
    tracemalloc.start()
    parse.run(config, layout, layout)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000 * count
    accepted, rejected = (pd.read_csv(path) for path in (layout.manifest, layout.rejected))
    assert (len(accepted), len(rejected)) == (count - count // 100, count // 100)


# The same number through every door

NUMBERS = {
    "1e-5": 1e-5, "1E-5": 1e-5, "'1e-5'": 1e-5, "1e5": 1e5, ".5": 0.5, "1.": 1.0, "1_000": 1000.0, "+1e-5": 1e-5,
    "0x10": None, "0b11": None, "017": None, "1:30": None, "yes": None, "On": None, "null": None, "~": None,
    "1e400": None, "1e-400": None, "nan": None, ".inf": None, "٣": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a copy of the settings, and the text of its params.yaml."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "conf", root / "conf")
    return root, composition.compose_text(ROOT)


def through(door):
    try:
        return door().train.learning_rate
    except ConfigError:
        return None


@pytest.mark.parametrize("text", NUMBERS)
def test_row_44_a_number_is_the_same_through_every_file(text, project):
    root, params = project
    option = (ROOT / "conf/train/base.yaml").read_text(encoding="utf-8")
    for file, content in (("params.yaml", params), ("conf/train/odd.yaml", option)):
        changed = re.sub(r"learning_rate: \S+", f"learning_rate: {text}", content)
        (root / file).write_text(changed, encoding="utf-8")
    doors = [
        lambda: loading.read_params(root / "params.yaml"),
        lambda: composition.compose(root, from_params=True),
        lambda: composition.compose(root, ["train=odd"]),
    ]
    try:
        assert [through(door) for door in doors] == [NUMBERS[text]] * 3
    finally:
        (root / "conf/train/odd.yaml").unlink()


@pytest.mark.parametrize("text", NUMBERS)
def test_row_44_a_number_on_the_command_line_is_that_of_the_file_or_a_decimal(text, project, tmp_path):
    root, params = project
    override = f"train.learning_rate={text}"
    wanted = 17.0 if text == "017" else NUMBERS[text]  # a word of digits has no base here
    written = tmp_path / "params.yaml"

    def as_params():
        written.write_text(composition.compose_text(root, [override]), encoding="utf-8")
        return loading.read_params(written)

    assert [through(lambda: composition.compose(root, [override])), through(as_params)] == [wanted] * 2
    if wanted is not None:  # what `dvc exp run -S` and `--queue` write; a sweep and a search compose as above
        written.write_text(params, encoding="utf-8")
        compose_and_dump(written, str(ROOT / "conf"), None, "config", "", [override])
        assert through(lambda: loading.read_params(written)) == wanted


# Rows 115 to 119


def zip_with_members_over_each_other(count):
    """Return a zip with one member's bytes and a directory that lists them many times."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(10_000))
    data = file.getvalue()
    start, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    entry = data[start:end]
    listed = b"".join(entry[:46] + bytes([97 + i]) + entry[47:] for i in range(count))
    return data[:start] + listed + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(listed), start, 0)


def test_row_113_a_zip_whose_members_lie_over_each_other_is_refused(tmp_path):
    source = tmp_path / "set.zip"
    source.write_bytes(zip_with_members_over_each_other(20))
    with pytest.raises(IntegrityError, match="truncated or damaged"):
        list(archives.contents(source))


def values_of(kind, data):
    values, _, _ = kind.encode(data)
    return values


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_row_114_a_picture_is_read_past_odd_parts_or_refused_in_bounded_memory():
    files = {}
    for form in ("PNG", "JPEG"):
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (9, 99, 9)).save(file, form)
        files[form] = file.getvalue()
    png, jpeg = files["PNG"], files["JPEG"]
    bomb = zlib.compress(bytes(2**26), 9)
    comments = jpeg[:2] + b"\xff\xfe\0\2" * 10_000 + jpeg[2:]
    assert values_of(IMAGE, comments).shape == IMAGE.shape
    assert values_of(IMAGE, png[:33] + chunk(b"prVt", bytes(2**20)) * 3 + png[33:]).shape == IMAGE.shape
    tracemalloc.start()
    for kind in (b"iCCP", b"zTXt"):
        with pytest.raises(Unreadable, match=r"too large|Too much"):
            IMAGE.encode(png[:33] + chunk(kind, b"name\0\0" + bomb) + png[33:])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25


TABLES = {
    "a mark of UTF-8 alone": (".csv", b"\xef\xbb\xbf", DataError, "has no header"),
    "a mark and a line end": (".csv", b"\xef\xbb\xbf\n", DataError, "has no header"),
    "blank lines": (".csv", b"\n" * 70_000 + b"text\na\n", DataError, "has no header"),
    "a zero byte": (".csv", b"text\na\0b\n", IntegrityError, "not UTF-8"),
    "UTF-16": (".csv", "text\na\n".encode("utf-16"), IntegrityError, "not UTF-8"),
    "no end of a quote": (".csv", b'text\n"a\nb\n', IntegrityError, "cannot be read"),
}


def parquet(table):
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def parquets():
    latin = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(struct.pack("<ii", 0, 2)), pa.py_buffer(b"\xff\xfe")]
    )
    whole = parquet(pa.table({"text": ["a"]}))
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    return {
        "two columns of one name": (parquet(twice), DataError, "several columns 'text'"),
        "a text that is not UTF-8": (parquet(pa.table({"text": latin})), IntegrityError, "cannot be read"),
        "a day that Python lacks": (
            parquet(pa.table({"text": pa.array([2**30], pa.date32())})), IntegrityError, "out of range"
        ),
        "a wrong length": (whole[:-8] + b"\xff\xff\xff\x7fPAR1", IntegrityError, "cannot be read"),
    }  # fmt: skip


@pytest.mark.parametrize("name", [*TABLES, *parquets()])
def test_row_115_an_odd_table_is_refused(name, tmp_path):
    suffix, data, kind, said = TABLES[name] if name in TABLES else (".parquet", *parquets()[name])
    source = tmp_path / f"t{suffix}"
    source.write_bytes(data)
    with pytest.raises(kind, match=said):
        list(table_contents(source, ["text"]))


def test_row_115_a_date_after_the_year_9999_and_one_long_line_are_read(tmp_path):
    source = tmp_path / "t.parquet"
    source.write_bytes(parquet(pa.table({"text": pa.array([253402300800 * 10**6], pa.timestamp("us"))})))
    assert [each["text"] for _, each in table_contents(source, ["text"])] == [b"10000-01-01 00:00:00"]
    long = b"a " * 500_000
    (tmp_path / "t.csv").write_bytes(b"text\n" + long + b"\n")
    ((_, row),) = table_contents(tmp_path / "t.csv", ["text"])
    tracemalloc.start()
    encoded = TextInput(vocabulary=100, length=4).encode(row["text"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (encoded.note, encoded.properties["tokens"]) == ("cut", 500_000)
    assert peak < 8 * len(long)


def test_row_116_numbers_that_no_program_holds_are_refused(tmp_path):
    ids = TextInput(tokens="ids", vocabulary=100, length=4)
    with pytest.raises(Unreadable, match="is outside 1-99"):
        ids.encode(b"9" * 5000)
    assert values_of(ids, b"0" * 5000 + b"42")[0] == 42
    with pytest.raises(Unreadable, match="not finite"):
        NumbersInput(width=1).encode(b"1e400")
    for head in (Categorical(name="c", classes=("a", "b")), Regression(name="r", unit="x", minimum=0, maximum=9)):
        for value in ([], {}, 1e400, float("nan"), "9" * 5000):
            with pytest.raises(ValueError, match=r"is none of|is not|is outside"):
                head.read(value)
    folder = tmp_path / "set"
    folder.mkdir()
    described = {
        "categories": [{"id": 1, "name": "cat"}],
        "images": [{"id": 1, "file_name": "1.jpg", "width": 10**400, "height": 10}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}],
    }
    for content in (
        json.dumps(described),
        json.dumps(described).replace("[1, 1, 2, 2]", "[1" + "0" * 400 + ", 1, 2, 2]"),
        "[" * 10**5,
    ):
        (folder / "annotations.json").write_text(content)
        with pytest.raises(DataError, match=r"annotations\.json is not a COCO file"):
            list(COCO.records(folder))


def npy(header):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(24)


HEADERS = {
    "an array of petabytes": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 9999999), }\n"),
    "many brackets": npy(b"(" * 9000),
    "a zero byte": npy(b"{'descr': '<f4', \0fortran_order': False, 'shape': (3,), }\n"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_row_117_an_array_whose_header_is_damaged_is_refused_by_name(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "checkpoint.npz", "w") as archive:
        archive.writestr("about.npy", HEADERS[name])
    (tmp_path / "plain.npz").write_bytes(HEADERS[name])
    (tmp_path / "packed.npy").write_bytes(HEADERS[name])
    for file in ("checkpoint.npz", "plain.npz"):
        with pytest.raises(IntegrityError, match=rf"{file} .*delete it to train from the start"):
            checkpoint.recorded_run(tmp_path / file)
    with pytest.raises(IntegrityError, match=r"packed\.npy (is damaged|holds).*make it again"):
        open_packed(tmp_path / "packed.npy", IMAGE)


def test_row_117_an_archive_for_an_array_and_an_array_for_an_archive_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    (tmp_path / "a.npy").rename(tmp_path / "checkpoint.npz")
    with pytest.raises(IntegrityError, match=r"checkpoint\.npz is damaged"):
        checkpoint.recorded_run(tmp_path / "checkpoint.npz")
