import io
import json
import shutil
import zipfile

import pandas as pd
import pytest
from PIL import Image

from manyheads import datasets
from manyheads.datasets import Coco, Record, Rejection, Table
from manyheads.datasets.documentation import synthetic
from manyheads.datasets.table import read_frame
from manyheads.errors import ConfigError, DataError, IntegrityError
from manyheads.inputs import ImageInput, NumbersInput

WORDS = synthetic("to test", "none")
TABLE, COCO = Table(WORDS), Coco(WORDS)


@pytest.mark.parametrize("name", datasets.BUILT_IN)
def test_every_dataset_has_its_documentation_and_needs_no_network(name):
    dataset = datasets.get(name)
    assert dataset.documentation.origin
    assert dataset.documentation.terms


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_gives_its_rows_in_either_form(ending, tmp_path):
    source = tmp_path / f"mine.{ending}"
    frame = pd.DataFrame({"text": ["one", "two"], "age": ["31", ""], "note": ["x", "y"]})
    frame.to_csv(source, index=False) if ending == "csv" else frame.to_parquet(source)
    name = f"mine.{ending}"
    assert list(TABLE.records(source)) == [
        (f"{name}/000001", Record({"text": "one", "age": "31", "note": "x"})),
        (f"{name}/000002", Record({"text": "two", "age": "", "note": "y"})),
    ]
    assert list(TABLE.contents(source, ["text"])) == [
        (f"{name}/000001", {"text": b"one"}),
        (f"{name}/000002", {"text": b"two"}),
    ]


def test_bytes_that_are_no_utf8_reach_the_input_as_they_are(tmp_path):
    source = tmp_path / "mine.csv"
    source.write_bytes(b"text,age\ncaf\xe9,3\nplain,4\n")
    assert [cells["text"] for _, cells in TABLE.contents(source, ["text"])] == [b"caf\xe9", b"plain"]


def test_a_table_that_cannot_be_used_is_named(tmp_path):
    source = tmp_path / "mine.csv"
    with pytest.raises(DataError, match=r"mine\.csv is missing"):
        TABLE.provide(source, source)
    source.write_text("text,age\na,1\n")
    with pytest.raises(DataError, match="has no column 'question' for the input question; it has text, age"):
        list(TABLE.contents(source, ["text", "question"]))
    (tmp_path / "mine.parquet").write_bytes(b"no parquet")
    with pytest.raises(IntegrityError, match=r"mine\.parquet cannot be read as a table"):
        list(TABLE.records(tmp_path / "mine.parquet"))


def test_a_table_of_ones_own_is_never_overwritten(tmp_path):
    source = tmp_path / "posts.csv"
    source.write_text("mine")
    datasets.get("posts").provide(source, source)
    assert source.read_text() == "mine"


@pytest.mark.parametrize("name", ["table", "coco", "class_folders"])
def test_data_of_ones_own_is_never_generated_and_is_found_in_the_main_project(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy, original = tmp_path / "copy/data/raw/wine.csv", tmp_path / "data/raw/wine.csv"
    with pytest.raises(DataError, match=r"^data/raw/wine\.csv is missing: put"):
        datasets.get(name).provide(copy, original)
    original.parent.mkdir(parents=True)
    original.touch()
    with pytest.raises(DataError, match=r"wine\.csv is empty"):
        datasets.get(name).provide(copy, original)
    original.write_text("mine")
    datasets.get(name).provide(copy, original)
    assert copy.read_text() == "mine"
    assert "not documented" in datasets.get(name).documentation.origin.lower()


@pytest.mark.slow
def test_synthetic_data_is_the_same_each_time(tmp_path):
    for name, ending in (("posts", "csv"), ("questions", "parquet"), ("objects", "zip"), ("numbers", "csv")):
        one, two = tmp_path / f"one.{ending}", tmp_path / f"two.{ending}"
        for target in (one, two):
            datasets.get(name).provide(target, target)
        assert one.read_bytes() == two.read_bytes(), name


def archive(path, described, files=("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg")):
    buffer = io.BytesIO()
    Image.new("RGB", (100, 50)).save(buffer, "JPEG")
    with zipfile.ZipFile(path, "w") as target:
        for name in files:
            target.writestr(f"mine/{name}", buffer.getvalue())
        target.writestr("mine/annotations.json", described if isinstance(described, str) else json.dumps(described))
    return path


def coco(**boxes):
    images = [{"id": i, "file_name": f"{name}.jpg", "width": 100, "height": 50} for i, name in enumerate(boxes)]
    annotations = [
        {"id": 0, "image_id": i, "category_id": 7, "bbox": box}
        for i, found in enumerate(boxes.values())
        for box in found
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "disc"}]}


def test_coco_boxes_become_shares_of_their_image_and_what_does_not_fit_is_rejected(tmp_path):
    described = coco(a=[[10, 10, 20, 30]], b=[], c=[[90, 10, 20, 30]], d=[[0, 0, 5, 5], [5, 5, 5, 5]], gone=[])
    found = dict(COCO.records(archive(tmp_path / "mine.zip", described)))
    assert found["mine/a.jpg"] == Record({"class": "disc", "box": (0.1, 0.2, 0.2, 0.6)})
    assert found["mine/b.jpg"] == Record({"class": "nothing", "box": None})
    codes = {path: outcome.code for path, outcome in found.items() if isinstance(outcome, Rejection)}
    assert codes == {
        "mine/c.jpg": "BOX_RANGE",
        "mine/d.jpg": "BOX_SEVERAL",
        "mine/e.jpg": "NOT_ANNOTATED",
        "mine/gone.jpg": "FILE_MISSING",
    }


@pytest.mark.parametrize("described", ["no json", "{}", '{"images": [], "annotations": [{}], "categories": []}'])
def test_a_file_that_is_no_coco_is_named(described, tmp_path):
    with pytest.raises(DataError, match=r"annotations\.json is not a COCO file"):
        list(COCO.records(archive(tmp_path / "mine.zip", described)))


def test_images_without_annotations_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as target:
        target.writestr("a.jpg", b"")
    with pytest.raises(DataError, match=r"needs one COCO file annotations\.json, it has 0"):
        list(COCO.records(tmp_path / "mine.zip"))


IMAGE = ImageInput(image_size=16, duplicate_correlation=1)
NUMBERS = {"features": NumbersInput(width=2)}
COLUMNS = {"features": ("fixed acidity", "pH"), "quality": "Quality"}


@pytest.mark.parametrize(
    "text",
    [
        "fixed acidity,pH,Quality\n7.4,3.5,5\n",
        "fixed acidity;pH;Quality\n7.4;3.5;5\n",
        '"fixed acidity"\t"pH"\tQuality\n7.4\t3.5\t5\n',
        "\ufefffixed acidity, pH, Quality\n7.4, 3.5, 5\n",
    ],
    ids=["comma", "semicolon", "tab", "mark and blanks"],
)  # fmt: skip
def test_columns_of_other_names_are_read_whatever_separates_them(text, tmp_path):
    source = tmp_path / "wine.csv"
    source.write_text(text, encoding="utf-8")
    table = datasets.get("table").configured(NUMBERS, COLUMNS)
    ((path, record),) = table.records(source)
    assert path == "wine.csv/000001"
    assert record.labels["quality"] == "5"
    assert list(table.contents(source, ["features"])) == [(path, {"features": b"7.4 3.5"})]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty: put a table"),
        (b"fixed acidity,pH\n", "has a header (fixed acidity, pH) and no rows"),
        (b"fixed acidity,pH,pH\n1,2,3\n", "has several columns 'pH': rename all but one"),
        (b"fixed acdity,pH\n1,2\n", "no column 'fixed acidity' for the input features - did you mean 'fixed acdity'?"),
        (b"fixed acidity,pH,Qality\n1,2,3\n", "no column 'Quality' for the head quality - did you mean 'Qality'?"),
        (b"fixed acidity,pH\n1,2,3\n", "cannot be read as a table: Length of header"),
        ("fixed acidity,pH\n1,2\n".encode("utf-16"), "is not UTF-8 text: save it as CSV in UTF-8"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_in_one_line(data, message, tmp_path):
    source = tmp_path / "wine.csv"
    source.write_bytes(data)
    with pytest.raises((DataError, IntegrityError)) as caught:
        list(datasets.get("table").configured(NUMBERS, COLUMNS).records(source))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(source))
    assert "\n" not in str(caught.value)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "p").mkdir(parents=True)
    for name in "ab":
        (folder / f"p/{name}.png").write_bytes(name.encode())
    rows = "p/a.png,p\\b.png,1\n./p/b.png,p/c.png,2\n../x,p/a.png,3\n,p/a.png,4\np/a.png,p/a.png,5\n"
    (folder / "faces.csv").write_text(f"left,right,age\n{rows}")
    return folder


@pytest.mark.parametrize("ending", ["", ".zip", ".tar.gz"])
def test_cells_are_paths_of_files_beside_the_table(ending, photos):
    if ending:
        shutil.make_archive(str(photos), "gztar" if ending == ".tar.gz" else "zip", photos.parent, photos.name)
    source = photos.with_name(photos.name + ending)
    table = datasets.get("table").configured({"left": IMAGE, "right": IMAGE}, {})
    found = {path: getattr(outcome, "code", "") for path, outcome in table.records(source)}
    assert found == {
        "faces.csv/000001/p/a.png": "", "faces.csv/000002/p/b.png": "FILE_MISSING",
        "faces.csv/000003/../x": "PATH_UNSAFE", "faces.csv/000004": "FILE_MISSING", "faces.csv/000005/p/a.png": "",
    }  # fmt: skip
    right = dict(table.contents(source, ["right"]))
    assert [right[path]["right"] for path, code in found.items() if not code] == [b"b", b"a"]


def test_a_table_alone_does_not_name_files_but_can_be_predicted(photos):
    table = datasets.get("table").configured({"left": IMAGE, "right": IMAGE}, {})
    with pytest.raises(DataError, match=r"faces\.csv names files in the input left: set data\.path to the folder"):
        list(table.records(photos / "faces.csv"))
    read = datasets.table_contents(photos / "faces.csv", ["left", "right"], {}, ["left", "right"])
    assert next(read) == ("faces.csv/000001/p/a.png", {"left": b"a", "right": b"b"})
    assert isinstance(next(read)[1], FileNotFoundError)


def test_a_folder_has_exactly_one_table_at_its_top(photos):
    (photos / "p/deeper.csv").write_text("ignored")
    table = datasets.get("table").configured({"left": IMAGE}, {})
    assert len(list(table.records(photos))) == 5
    (photos / "more.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"photos has 2 tables at its top: photos/faces\.csv, photos/more\.csv: put"):
        list(table.records(photos))
    with pytest.raises(DataError, match=r"book\.xlsx is no table: save it as \.csv or \.parquet"):
        (photos / "book.xlsx").touch()
        list(table.records(photos / "book.xlsx"))


@pytest.mark.parametrize("top", ["", "flowers/", "a/b/"])
def test_class_folders_give_the_folder_as_class(top, tmp_path):
    with zipfile.ZipFile(tmp_path / "flowers.zip", "w") as target:
        for name in ("daisy/1.JPG", "tulip/1.webp", "tulip/old/2.jpg", "tulip/notes.txt", "__MACOSX/tulip/._1.jpg"):
            target.writestr(f"{top}{name}", "x")
        target.writestr("readme.md", "x")
    dataset = datasets.get("class_folders").configured({"photo": IMAGE}, {})
    found = dict(dataset.records(tmp_path / "flowers.zip"))
    assert found[f"{top}daisy/1.JPG"] == Record({"class": "daisy"})
    assert found[f"{top}tulip/1.webp"] == Record({"class": "tulip"})
    codes = sorted(outcome.code for outcome in found.values() if isinstance(outcome, Rejection))
    assert codes == ["FOLDER_DEPTH", "JUNK", "SUFFIX_UNKNOWN", "SUFFIX_UNKNOWN"]
    with pytest.raises(ConfigError, match=r"data\.columns names photo, but this dataset is no table"):
        dataset.configured({"photo": IMAGE}, {"photo": "image"})
    with pytest.raises(ConfigError, match="one file a sample"):
        dataset.configured({"photo": IMAGE, "other": IMAGE}, {})


def test_a_coco_file_may_have_another_name_if_it_is_the_only_one(tmp_path):
    path = tmp_path / "mine.zip"
    for names, fits in (
        (["instances.json"], True),
        (["a.json", "b.json"], False),
        (["a.json", "annotations.json"], True),
    ):
        with zipfile.ZipFile(path, "w") as target:
            target.writestr("a.jpg", b"x")
            for name in names:
                target.writestr(name, json.dumps(coco(a=[[0, 0, 5, 5]])))
        if fits:
            assert dict(datasets.get("coco").records(path))["a.jpg"].labels["class"] == "disc"
        else:
            with pytest.raises(DataError, match=r"needs one COCO file annotations\.json, it has 2: a\.json, b\.json"):
                list(datasets.get("coco").records(path))


def test_columns_without_a_name_are_numbered(tmp_path):
    frame = read_frame(tmp_path / "a.csv", b"x,,label, \n1,2,a,\n3,4,b,\n")
    assert list(frame) == ["x", "unnamed_2", "label", "unnamed_4"]
    assert frame["unnamed_2"].tolist() == ["2", "4"]
