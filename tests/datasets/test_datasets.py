import io
import json
import zipfile

import pandas as pd
import pytest
from PIL import Image

from manyheads import datasets
from manyheads.datasets import Coco, Record, Rejection, Table
from manyheads.datasets.documentation import synthetic
from manyheads.errors import DataError, IntegrityError

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
