"""Hostile bytes wherever bytes come in: they are read, or refused by an error of the project, in time and memory.

Each example is derived from a valid file: bytes are changed, cut and repeated, or its parts are put together wrongly.
The examples are the same at each run. ``EXAMPLES`` was 3,000 when most doors were first tried.
"""

import functools
import gzip
import io
import itertools
import json
import pickle
import resource
import struct
import sys
import tarfile
import zipfile
import zlib
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import bad_requests
import graph_models
import state_dicts
from manyheads.datasets import Record, archives, table, table_contents, utkface
from manyheads.datasets.coco import DATASET as COCO
from manyheads.errors import DataError, IntegrityError, Unreadable
from manyheads.heads import Binary, Box, Categorical, Regression
from manyheads.inputs import ImageInput, NumbersInput, TextInput
from manyheads.modeling import saving
from manyheads.prediction.answers import AnsweringModel
from manyheads.prediction.frames import answered
from manyheads.preprocessing.labels import read_labels
from manyheads.training import checkpoint
from manyheads.weights import graph_model, state_dict
from serving_models import save_untrained, serving

EXAMPLES = 50
MEBIBYTES = 400
"""What the memory of this process may grow by in a test; an archive, a table or a picture that is read has a few."""

fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=20_000,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True)
def _memory_is_bounded():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    assert grown < MEBIBYTES, f"{grown} MiB"


# What can be done to bytes

INTERESTING = [
    b"\0",
    b"\xff",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"-1",
    b"\n",
    b'"',
]


@st.composite
def damaged(draw, files):
    """Return a file with up to five changes."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 40))
        new = draw(st.sampled_from(INTERESTING) | st.binary(max_size=8))
        change = draw(st.sampled_from(["set", "insert", "remove", "repeat", "cut"]))
        if change == "set":
            data[start : start + len(new)] = new
        elif change == "insert":
            data[start:start] = new
        elif change == "remove":
            del data[start : start + length]
        elif change == "repeat":
            data[start:start] = data[start : start + length] * 3
        else:
            del data[start:]
    return bytes(data)


TEXT = st.text(st.characters() | st.sampled_from("\0\n\r\t/\\.=<>'\"%\x1b\u202e\ud800\udcff٣_"), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from([10**400, -1, "", "id", 1e308]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def replaced(draw, value):
    """Return a JSON value with one of its parts replaced by another or removed."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(value)))
        if not draw(st.integers(0, 6)):
            return {name: each for name, each in value.items() if name != key}
        return {**value, key: draw(replaced(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], draw(replaced(value[at])), *value[at + 1 :]]
    return draw(JSON)


def refused(read, *kinds):
    """Return what ``read`` returns, or None if it raises an error of these kinds."""
    try:
        return read()
    except kinds:
        return None


# Names and labels

HEADS = {
    "age": Regression(name="age", unit="years", minimum=0, maximum=116),
    "gender": Binary(name="gender", classes=("male", "female")),
    "race": Categorical(name="race", classes=("a", "b", "c")),
}
NAMES = st.text(st.sampled_from("0123456789_./ jpgchipJPG-=@+\\\0\n\u202e٣é\udcff~"), max_size=60) | st.builds(
    lambda fields, ending: "UTKFace/" + "_".join(fields) + ending,
    st.lists(st.text("0123456789", max_size=30) | TEXT, max_size=6),
    st.sampled_from([".jpg", ".jpg.chip.jpg", "jpg", "", ".JPG", " .jpg"]),
)


@fuzzed
@given(NAMES | TEXT | st.binary(max_size=300).map(lambda name: name.decode("utf-8", "surrogateescape")))
def test_a_name_has_labels_or_a_code(name):
    found = utkface.parse_name(name)
    if isinstance(found, Record):
        assert set(found.labels) == set(utkface.LABELS)
        name.encode()  # an accepted name is a name everywhere
    else:
        assert found.code.isupper()
    read_labels([(name, found)], HEADS)


@fuzzed
@given(st.sampled_from([*HEADS.values(), Box(name="b")]), TEXT | JSON)
def test_a_label_is_read_or_refused(head, value):
    refused(lambda: head.read(value), ValueError)


# Archives

FILES = {"set/1_0_1_2017.jpg": b"\xff\xd8" + bytes(range(256)), "set/b.json": b"{}", "set/deep/c": b""}


def tar_of(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def zip_of(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


LONG = {f"set/{'é' * 120}.jpg": b"x", **FILES}
TARS, ZIPS = [tar_of(FILES), tar_of(LONG)], [zip_of(FILES), zip_of(LONG)]
NUMBERS = st.integers(0, 2**33) | st.sampled_from([0, 1, 511, 512, 2**31, 2**63 - 1])


@st.composite
def odd_tar(draw):
    """Return a tar whose headers have a right checksum and contents that do not fit."""
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        member = tarfile.TarInfo(draw(TEXT | st.sampled_from([*FILES, "../x", "/x", "a" * 300])))
        member.size = draw(st.integers(0, 600) | NUMBERS)
        types = [tarfile.REGTYPE, tarfile.AREGTYPE, *b"1234567gxLKSDVX"]
        kind = draw(st.sampled_from(types))
        member.type = bytes([kind]) if isinstance(kind, int) else kind
        member.linkname = draw(TEXT)
        header = {
            key: draw(TEXT)
            for key in draw(
                st.lists(
                    st.sampled_from(
                        ["path", "size", "mtime", "GNU.sparse.map", "hdrcharset", "GNU.sparse.realsize", "comment"]
                    ),
                    max_size=3,
                )
            )
        }
        member.pax_headers = header
        form = draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
        try:
            parts.append(member.tobuf(form, "utf-8", "surrogatepass"))
        except (ValueError, UnicodeError):
            continue
        parts.append(draw(st.binary(max_size=600)).ljust(draw(st.sampled_from([0, 512, 1024])), b"\0"))
    return b"".join(parts) + bytes(draw(st.sampled_from([0, 512, 1024, 10240])))


@st.composite
def odd_zip(draw):
    """Return a zip with fields of its central directory replaced."""
    data = bytearray(draw(st.sampled_from(ZIPS)))
    starts = [at for at in range(len(data)) if data[at : at + 4] in (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06")]
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.sampled_from(starts)) + draw(st.integers(4, 44))
        size, value = draw(st.sampled_from([("<H", 0xFFFF), ("<I", 0xFFFFFFFF)]))
        new = struct.pack(size, draw(st.integers(0, 400) | st.sampled_from([value, value - 1, value // 2])))
        data[at : at + len(new)] = new
    return bytes(data)


def gzipped(data):
    return gzip.compress(data, 1, mtime=0)


PACKED = {
    ".tar": damaged(TARS) | odd_tar(),
    ".tar.gz": damaged([*map(gzipped, TARS)]) | damaged(TARS).map(gzipped) | odd_tar().map(gzipped),
    ".zip": damaged(ZIPS) | odd_zip(),
}


@fuzzed
@given(st.sampled_from(sorted(PACKED)).flatmap(lambda suffix: st.tuples(st.just(suffix), PACKED[suffix])))
def test_an_archive_is_read_or_refused(tmp_path, packed):
    suffix, data = packed
    source = tmp_path / f"set{suffix}"
    source.write_bytes(data)
    found = refused(lambda: list(archives.contents(source)), DataError, IntegrityError)
    for name, content in found or []:
        assert isinstance(content, bytes)
        assert not name.startswith("/")
        assert ".." not in name.split("/")


# Inputs

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 20, 4), dtype=np.uint8)


def picture(form, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, form, **options)
    return file.getvalue()


def exif():
    tags = Image.Exif()
    tags[0x0112] = 6
    return tags.tobytes()


@functools.cache
def pictures():
    frames = [Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1])]
    return [
        picture("JPEG", exif=exif()), picture("JPEG", progressive=True), picture("JPEG", "CMYK"),
        picture("JPEG", "L", restart_marker_blocks=1), picture("PNG"), picture("PNG", "P"), picture("PNG", "1"),
        picture("PNG", "RGBA", save_all=True, append_images=frames), picture("GIF", "P"),
        picture("WEBP", "RGBA", lossless=True), picture("WEBP", save_all=True, append_images=frames),
        picture("BMP"), picture("BMP", "1"), picture("TIFF", "RGBA"), picture("TIFF", compression="tiff_lzw"),
        picture("TIFF", save_all=True, append_images=frames), picture("TIFF", compression="tiff_deflate"),
    ]  # fmt: skip


@st.composite
def odd_png(draw):
    """Return a PNG with chunks of right checksums that are changed, repeated, exchanged or of another kind."""
    chunks = []
    data = draw(st.sampled_from([each for each in pictures() if each.startswith(b"\x89PNG")]))
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(draw(st.integers(1, 4))):
        i = draw(st.integers(0, len(chunks) - 1))
        kind, content = chunks[i]
        change = draw(st.sampled_from(["bytes", "kind", "repeat", "remove", "new"]))
        if change == "bytes":
            chunks[i] = (kind, draw(damaged([content])))
        elif change == "kind":
            chunks[i] = (
                draw(st.sampled_from([b"iCCP", b"zTXt", b"iTXt", b"eXIf", b"acTL", b"fcTL", b"tRNS", b"PLTE"])),
                content,
            )
        elif change == "repeat":
            chunks.insert(i, chunks[i])
        elif change == "remove" and len(chunks) > 1:
            del chunks[i]
        else:
            bomb = b"name\0\0" + zlib.compress(bytes(draw(st.sampled_from([10, 2**20, 2**24]))))
            chunks.insert(i, (draw(st.sampled_from([b"iCCP", b"zTXt", b"tEXt", b"IDAT"])), bomb))
    joined = b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return data[:8] + joined


@st.composite
def odd_jpeg(draw):
    """Return a JPEG with segments that are changed, repeated or of another kind."""
    data = draw(st.sampled_from([each for each in pictures() if each.startswith(b"\xff\xd8")]))
    segments, at = [], 2
    while data[at + 1] != 0xDA:
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        segments.append((data[at + 1], data[at + 4 : at + 2 + length]))
        at += 2 + length
    for _ in range(draw(st.integers(1, 4))):
        i = draw(st.integers(0, len(segments) - 1))
        marker, content = segments[i]
        change = draw(st.sampled_from(["bytes", "kind", "repeat", "comments"]))
        if change == "bytes":
            segments[i] = (marker, draw(damaged([content]))[:60_000])
        elif change == "kind":
            segments[i] = (draw(st.integers(0xC0, 0xFE)), content)
        else:
            segments[i:i] = [segments[i] if change == "repeat" else (0xFE, b"x" * 1000)] * draw(st.integers(1, 50))
    joined = b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(c) + 2) + c for marker, c in segments)
    return data[:2] + joined + data[at:]


IMAGE = ImageInput(image_size=16, duplicate_correlation=0.9)


def read(kind, data):
    """Require that an input reads bytes as its values, or refuses them with a code and a reason of one line."""
    try:
        values, _, _ = kind.encode(data)
    except Unreadable as refusal:
        found = refusal
    else:
        assert (values.shape, values.dtype) == (kind.shape, kind.dtype)
        assert np.isfinite(values).all()
        return
    assert found.code.isupper()
    assert "\n" not in found.reason


@pytest.mark.filterwarnings("default")  # Pillow says what is wrong with a file by warnings, too
@fuzzed
@given(st.deferred(lambda: damaged(pictures()) | odd_png() | odd_jpeg()))
def test_a_picture_is_pixels_or_a_code(data):
    read(IMAGE, data)


TEXTS = [TextInput(vocabulary=100, length=4), TextInput(tokens="ids", vocabulary=100, length=4), NumbersInput(width=2)]


@fuzzed
@given(
    st.sampled_from(TEXTS),
    st.binary(max_size=100)
    | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.text("0123456789 _.e+-xnaif٣", max_size=30).map(str.encode)
    | st.integers(0, 5000).map(lambda digits: b"9" * digits),
)
def test_a_text_or_numbers_are_values_or_a_code(kind, data):
    read(kind, data)


@fuzzed
@given(st.sampled_from([IMAGE, *TEXTS]), JSON | st.binary())
def test_a_value_of_json_is_bytes_or_a_code(kind, value):
    with suppress(Unreadable):
        read(kind, kind.bytes_of(value))


# Tables

SECRET = b"outside of the folder"
FRAME = pd.DataFrame(
    {"text": ["a b", "c", ""], "number": [1, 2, None], "file": ["1.jpg", "../secret", "/etc/hostname"]}
)


@functools.cache
def csvs():
    text = FRAME.to_csv(index=False)
    return [
        text.encode(),
        text.replace(",", ";").encode(),
        b"\xef\xbb\xbf" + text.encode(),
        text.encode("utf-16"),
        b'text,file\n"a\nb","1.jpg"\n',
    ]


@functools.cache
def parquets():
    dates = pd.DataFrame(
        {"text": pd.to_datetime(["2020-01-01", None]), "file": ["1.jpg", "x"], "c": pd.Categorical(["a", "b"])}
    )
    files = []
    for frame, compression in itertools.product((FRAME, dates), (None, "snappy", "gzip")):
        file = io.BytesIO()
        frame.to_parquet(file, compression=compression, index=False)
        files.append(file.getvalue())
    return files


@st.composite
def odd_footer(draw):
    """Return a Parquet file with a changed footer and its right length, or another length."""
    data = draw(st.sampled_from(parquets()))
    (length,) = struct.unpack("<I", data[-8:-4])
    footer = draw(damaged([data[-8 - length : -8]]))
    stated = draw(st.sampled_from([len(footer), 0, 2**31, len(data)]) | st.integers(0, 5000))
    return data[: -8 - length] + footer + struct.pack("<I", stated) + b"PAR1"


CSV = damaged(csvs()) | st.binary(max_size=60) | st.text('a,;\t|"\n\r\0é \ufeff1', max_size=60).map(str.encode)
TABLES = CSV.map(lambda data: (".csv", data)) | st.deferred(
    lambda: (damaged(parquets()) | odd_footer()).map(lambda data: (".parquet", data))
)


@fuzzed
@given(TABLES)
def test_a_table_is_read_or_refused(tmp_path, given_table):
    suffix, data = given_table
    (tmp_path / "secret").write_bytes(SECRET)
    folder = tmp_path / "set"
    folder.mkdir(exist_ok=True)
    (folder / "1.jpg").write_bytes(b"1")
    source = folder / f"set{suffix}"
    source.write_bytes(data)

    def read():
        found = list(table_contents(source, ["text"], {}, ()))
        found += list(table_contents(source, ["file"], {}, ("file",)))
        assert SECRET not in [each["file"] for _, each in found if isinstance(each, dict) and "file" in each]
        return found

    refused(read, DataError, IntegrityError)
    refused(lambda: table.count_rows(source), DataError, IntegrityError)
    refused(lambda: table.read_frame(source, data), DataError, IntegrityError)


COCO_FILE = {
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "images": [
        {"id": 1, "file_name": "1.jpg", "width": 10, "height": 10},
        {"id": 2, "file_name": "2.jpg", "width": 4, "height": 4},
    ],
    "annotations": [
        {"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]},
        {"image_id": 2, "category_id": 2, "bbox": [0, 0, 1, 1]},
    ],
}
COCO_HEADS = {"class": Categorical(name="class", classes=("cat", "dog", "nothing")), "box": Box(name="box")}


@fuzzed
@given(replaced(COCO_FILE).map(json.dumps).map(str.encode) | damaged([json.dumps(COCO_FILE).encode()]))
def test_a_coco_file_is_read_or_refused(tmp_path, data):
    folder = tmp_path / "set"
    folder.mkdir(exist_ok=True)
    for name in ("1.jpg", "2.jpg"):
        (folder / name).write_bytes(b"")
    (folder / "annotations.json").write_bytes(data)
    found = refused(lambda: dict(COCO.records(folder)), DataError)
    if found is not None:
        assert {"set/1.jpg", "set/2.jpg"} <= set(found)
        read_labels(sorted(found.items()), COCO_HEADS)


# Files of models


class _Variable:
    """Stands for a variable of Keras."""

    def __init__(self, shape):
        self.values = np.zeros(shape, np.float32)

    def numpy(self):
        return self.values

    def assign(self, values):
        if np.shape(values) != self.values.shape:
            raise ValueError("another shape")
        self.values = np.asarray(values, np.float32)


class _Model:
    def __init__(self):
        self.variables = [_Variable((3, 2)), _Variable((2,))]
        self.optimizer = type("Optimizer", (), {"variables": [_Variable(())]})()


@functools.cache
def checkpoints(folder):
    path = folder / "first.npz"
    progress = checkpoint.Progress([{"val/score": 0.5}], 1, [np.zeros((3, 2)), np.zeros(2)], "ab", {"a": "b"})
    checkpoint.save_checkpoint(path, _Model(), progress)
    data = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return data, members


@st.composite
def odd_npz(draw, members):
    """Return an archive of arrays in which one array is damaged; its checksum is right."""
    name = draw(st.sampled_from(sorted(members)))
    header = st.sampled_from(
        [
            "{'descr': '|O', 'fortran_order': False, 'shape': (3, 2), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 9999999), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
            "(" * 9000,
        ]
    )
    npy = header.map(
        lambda text: b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n" + bytes(24)
    )
    return zip_of({**members, name: draw(damaged([members[name]]) | npy)})


@pytest.fixture(scope="module")
def saved_checkpoint(tmp_path_factory):
    """Return the bytes of a checkpoint, and those of its members by name."""
    path = tmp_path_factory.mktemp("first") / "checkpoint.npz"
    progress = checkpoint.Progress([{"val/score": 0.5}], 1, [np.zeros((3, 2)), np.zeros(2)], "ab", {"a": "b"})
    checkpoint.save_checkpoint(path, _Model(), progress)
    return path.read_bytes(), members_of(path)


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@fuzzed
@given(st.data())
def test_a_checkpoint_is_read_or_refused(saved_checkpoint, tmp_path, data):
    whole, members = saved_checkpoint
    path = tmp_path / "checkpoint.npz"
    files = damaged([whole, members["about.npy"], pickle.dumps([1])]) | odd_npz(members) | odd_zip()
    path.write_bytes(data.draw(files))
    refused(lambda: checkpoint.recorded_run(path), IntegrityError)
    refused(lambda: checkpoint.resume(path, _Model(), {"a": "b"}), IntegrityError)


@pytest.fixture(scope="module")
def weights():
    """Return the bytes of a state dict of two tensors, and those of a graph and its constants."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in state_dicts.stand_in_modules().items():
            patch.setitem(sys.modules, name, module)
        values = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(3)}
        return state_dicts.state_dict({name: state_dicts.tensor(name, each) for name, each in values.items()})


@fuzzed
@given(st.data())
def test_a_state_dict_is_read_or_refused(weights, data):
    refused(lambda: state_dict.tensors(data.draw(damaged([weights]))), IntegrityError)


GRAPH, CONSTANTS = graph_models.as_files(*graph_models.tiny_graph())


@fuzzed
@given(
    replaced(json.loads(GRAPH)).map(json.dumps).map(str.encode) | damaged([GRAPH]),
    damaged([CONSTANTS]) | st.just(CONSTANTS),
)
def test_a_graph_model_is_read_or_refused(graph, constants):
    refused(lambda: graph_model.convolutions(graph, constants), IntegrityError)


# A model: its files, its server and the function that MLflow calls


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_config):
    """Return the folder of a model."""
    folder = tmp_path_factory.mktemp("model")
    save_untrained(folder, tiny_config())
    return folder


@st.composite
def odd_model(draw, files):
    """Return files of a model of which some are damaged; the digest is right, unless it was damaged itself."""
    files = dict(files)
    name = draw(st.sampled_from(sorted(files)))
    if name == "model.json" and draw(st.booleans()):
        files[name] = json.dumps(draw(replaced(json.loads(files[name])))).encode()
    elif name == "model.keras" and draw(st.integers(0, 3)):
        with zipfile.ZipFile(io.BytesIO(files[name])) as archive:
            members = {each: archive.read(each) for each in archive.namelist()}
        member = draw(st.sampled_from(sorted(members)))
        if member.endswith(".json") and draw(st.booleans()):
            members[member] = json.dumps(draw(replaced(json.loads(members[member])))).encode()
        else:
            members[member] = draw(damaged([members[member]]))
        files[name] = zip_of(members)
    else:
        files[name] = draw(damaged([files[name]]))
    return files


def write_model(folder, files):
    for name, data in files.items():
        (folder / name).write_bytes(data)
    try:
        card = json.loads(files["model.json"])
    except ValueError:
        return
    if isinstance(card, dict):
        card["digest"] = saving._digest(card, folder / "model.keras")
        (folder / "model.json").write_text(json.dumps(card))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Keras and h5py warn of what they refuse
@settings(fuzzed, max_examples=EXAMPLES // 5)
@given(st.data())
def test_a_model_is_loaded_or_refused(model, tmp_path, data):
    files = {path.name: path.read_bytes() for path in model.iterdir()} | {"directions.npy": npy(np.eye(3))}
    write_model(tmp_path, data.draw(odd_model(files)))
    refused(lambda: saving.load(tmp_path), IntegrityError)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.fixture(scope="module")
def port(model):
    with serving(model) as port:
        yield port


REQUEST = bad_requests.request(picture("PNG"), "image/png")
JSON_BODY = json.dumps({"image": "aGFsbG8="}).encode()
PART = b'Content-Disposition: form-data; name="image"; filename="x"\r\nContent-Type: image/png\r\n\r\nx\r\n'
FORM = b"--b\r\n" + PART + b"--b--\r\n"
HEADER = st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=20)
REQUESTS = (
    damaged([REQUEST, bad_requests.request(JSON_BODY, "application/json")])
    | damaged([FORM]).map(lambda body: bad_requests.request(body, "multipart/form-data; boundary=b"))
    | damaged([JSON_BODY]).map(lambda body: bad_requests.request(body, "application/json"))
    | replaced([json.loads(JSON_BODY)]).map(lambda v: bad_requests.request(json.dumps(v).encode(), "application/json"))
    | st.builds(
        lambda name, value: bad_requests.request(FORM, "multipart/form-data; boundary=b", **{name: value}),
        st.sampled_from(["Content_Type", "Content_Length", "Transfer_Encoding", "Host", "Expect", "X", "Connection"]),
        HEADER
        | st.sampled_from(
            [
                "chunked",
                "chunked, chunked",
                "gzip",
                "-1",
                "+5",
                "1_0",
                "100-continue",
                "multipart/form-data; boundary=b; charset=idna",
                "multipart/form-data",
                "multipart/form-data; boundary=" + "b" * 300,
            ]
        ),
    )
    | TEXT.map(
        lambda query: bad_requests.request(b"", path="/predict?find_faces=" + query.encode("utf-8", "replace").hex())
    )
)


@pytest.mark.slow
@fuzzed
@given(REQUESTS)
def test_a_request_is_answered_or_refused(port, data):
    answer = bad_requests.send(port, iter([data]), timeout=4)
    assert answer.status in (0, 200, 400, 404, 405, 408, 411, 413, 415, 417, 422, 501), answer
    assert answer.code != "INTERNAL"


@pytest.mark.slow
@fuzzed
@given(
    st.lists(
        JSON | st.sampled_from([picture("PNG"), b"", np.zeros(3), np.nan, pd.NaT, pd.NA, memoryview(b"x")]), max_size=4
    )
)
def test_a_data_frame_is_answered_row_by_row(model, answering, cells):
    frame = pd.DataFrame({"image": pd.Series(cells, dtype=object)})
    table = answered(answering, frame)
    assert len(table) == len(frame)
    assert table["error"].notna().all()


@pytest.fixture(scope="module")
def answering(model):
    return AnsweringModel(saving.load(model))
