"""Data of a user's own, from the raw data to the evaluation, with the default model and the default losses."""

import io
import json
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from conftest import ROOT, SETTINGS_OF_THE_USER
from manyheads.config import composition
from manyheads.paths import Paths
from manyheads.stages import audit, evaluate, pack, parse, report, source, split, train

SAMPLES = 120
DEFAULTS = [{"override /model": "default"}, {"override /loss": "default"}, {"override /train": "base"}]
COLOURS = {"red": (220, 30, 40), "blue": (30, 60, 220)}
IMAGE = {"kind": "image", "image_size": 16, "duplicate_correlation": 1}


def picture(random, colour, kind, **options):
    pixels = np.array(COLOURS[colour]) + random.normal(0, 20, (20, 24, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, kind, **options)
    return buffer.getvalue()


def wine(raw, random):
    acidity, sulphur = random.normal(3.3, 0.2, SAMPLES), np.exp(random.normal(4, 1, SAMPLES))
    colour = random.choice(["red", "white"], SAMPLES)
    table = pd.DataFrame({"fixed acidity": acidity, "Total SO2": sulphur, "Review": "dark plum", "Colour": colour})
    table.loc[colour == "white", "Review"] = "pale straw"
    table["Quality"] = [str(round(50 + 40 * (value - 3.3))) for value in acidity]
    table.loc[0, "Quality"], table.loc[1, "Quality"] = "", "NA"
    table.to_csv(raw / "wine.csv", index=False, sep=";", encoding="utf-8-sig")
    columns = {"features": ["fixed acidity", "Total SO2"], "review": "Review", "quality": "Quality", "colour": "Colour"}
    return {
        "data": {
            "name": "table", "path": "data/raw/wine.csv", "max_reject_fraction": 0, "columns": columns,
            "heads": {
                "quality": {
                    "kind": "regression", "unit": "points", "minimum": 0, "maximum": 99, "bins": [50], "tolerance": 3,
                },
                "colour": {"kind": "binary", "classes": ["red", "white"]},
            },
        },
        "inputs": {
            "features": {"kind": "numbers", "width": 2},
            "review": {"kind": "text", "vocabulary": 50, "length": 3},
        },
    }  # fmt: skip


def pairs(raw, random):
    folder = raw / "pairs"
    (folder / "photos").mkdir(parents=True)
    (folder / ".DS_Store").touch()
    rows = []
    for number, (left, right) in enumerate(random.choice(list(COLOURS), (SAMPLES, 2))):
        for side, colour in (("left", left), ("right", right)):
            (folder / f"photos/{number}_{side}.jpg").write_bytes(picture(random, colour, "JPEG"))
        rows.append((f"photos/{number}_left.jpg", f"photos\\{number}_right.jpg", "same" if left == right else "other"))
    # One row is given twice.
    pd.DataFrame([*rows, rows[-1]], columns=["left", "Right side", "match"]).to_csv(folder / "pairs.csv", index=False)
    heads = {"match": {"kind": "categorical", "classes": ["same", "other"]}}
    data = {"name": "table", "path": "data/raw/pairs", "max_reject_fraction": 0, "heads": heads}
    return {"data": {**data, "columns": {"right": "Right side"}}, "inputs": {"left": IMAGE, "right": IMAGE}}


def folders(raw, random):
    with zipfile.ZipFile(raw / "things.zip", "w") as archive:
        for number, colour in enumerate(random.choice(list(COLOURS), SAMPLES)):
            kind = ("png", "webp", "bmp", "tiff")[number % 4]
            archive.writestr(f"things/{colour}/{number}.{kind}", picture(random, colour, kind))
        archive.writestr("things/red/notes.txt", "mine")
        archive.writestr("things/red/old/1.png", picture(random, "red", "png"))
        archive.writestr("__MACOSX/things/red/._1.png", b"")
    heads = {"class": {"kind": "categorical", "classes": sorted(COLOURS)}}
    data = {"name": "class_folders", "path": "data/raw/things.zip", "max_reject_fraction": 0.02, "heads": heads}
    return {"data": data, "inputs": {"photo": IMAGE}}


def boxes(raw, random):
    """Return annotated images with an object in each, so that no class ``nothing`` is needed."""
    images, annotations = [], []
    with zipfile.ZipFile(raw / "boxes.zip", "w") as archive:
        for number, colour in enumerate(random.choice([0, 1], SAMPLES)):
            archive.writestr(f"{number}.png", picture(random, list(COLOURS)[colour], "PNG"))
            images.append({"id": number, "file_name": f"{number}.png", "width": 24, "height": 20})
            box = [int(random.integers(0, 8)), 2, 10, 12]
            annotations.append({"id": number, "image_id": number, "category_id": int(colour), "bbox": box})
        categories = [{"id": number, "name": name} for number, name in enumerate(COLOURS)]
        described = {"images": images, "annotations": annotations, "categories": categories}
        archive.writestr("instances.json", json.dumps(described))
    heads = {"class": {"kind": "categorical", "classes": list(COLOURS)}, "box": {"kind": "box"}}
    data = {"name": "coco", "path": "data/raw/boxes.zip", "max_reject_fraction": 0, "heads": heads}
    return {"data": data, "inputs": {"image": IMAGE}}


FORMS = {"wine": wine, "pairs": pairs, "folders": folders, "boxes": boxes}
REJECTED = {"folders": ["JUNK", "SUFFIX_UNKNOWN", "FOLDER_DEPTH"]}
FIRST = {
    "wine": "wine.csv/000001", "pairs": "pairs.csv/000001/photos/0_left.jpg", "folders": "things/blue/", "boxes": "0.",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_heads_and_inputs_alone_are_a_whole_configuration(form, tmp_path, migrated_store, monkeypatch):
    for name in SETTINGS_OF_THE_USER:
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    for file in (migrated_store, ROOT / "dvc.yaml"):
        shutil.copy(file, tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    settings = FORMS[form](tmp_path / "data/raw", np.random.default_rng(0))
    text = "# @package _global_\n" + yaml.safe_dump(
        {"defaults": DEFAULTS, "audit": {"folds": 0}, **settings}, sort_keys=False
    )
    (tmp_path / "conf/data/mine.yaml").write_text(text)
    config = composition.compose(
        tmp_path,
        ["data=mine", "train.epochs=4", "train.batch_size=16"] if form == "wine" else ["data=mine", "train.epochs=1"],
    )
    layout = Paths(tmp_path)
    further = (audit, report) if form == "wine" else ()
    for stage in (source, parse, pack, split, train, evaluate, *further):
        stage.run(config, layout, layout)
    samples = pd.read_csv(layout.samples)
    assert samples["path"].iloc[0].startswith(FIRST[form])
    assert len(samples) == SAMPLES + (form == "pairs")
    assert sorted(pd.read_csv(layout.rejected)["code"]) == sorted(REJECTED.get(form, []))
    metrics = json.loads(layout.metrics.read_text())
    assert set(metrics["baseline"]) == set(config.data.heads)
    if form == "wine":
        assert "not documented" in layout.data_card.read_text(encoding="utf-8")
        assert metrics["colour"]["accuracy"] > 0.9
        assert pd.read_csv(layout.manifest)["quality"].isna().sum() == 2
    if form == "pairs":
        assert samples["group"].duplicated().sum() == 1
