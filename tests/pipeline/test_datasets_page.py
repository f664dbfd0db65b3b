"""The examples of docs/datasets.md run word for word, each in an empty clone, with data as a user has it.

``make`` finds the environment of the tests where it would make ``.venv``. Python is a fork of one that has imported
TensorFlow. Nothing else is replaced.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from clones import ROOT, copy_project
from manyheads.config import composition
from manyheads.training.tracked import main_metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PAGE = ROOT / "docs/datasets.md"


def examples() -> dict[str, list[tuple[str, str]]]:
    """Return the fenced blocks of each example, with their languages, by the name of the option that it makes.

    An example starts with a block that names ``data=NAME`` for the first time; blocks that name none belong to the one
    before.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    current = ""
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        if language in ("sh", "yaml") and (named := re.search(r"data=(\w+)", text)):
            current = named[1]
        elif own := re.match(r"# extensions/(\w+)\.py", text):
            current = own[1]
        if language in ("sh", "yaml", "python"):
            found.setdefault(current, []).append((language, text))
    return found


EXAMPLES = examples()


def wine(home: Path, random: np.random.Generator) -> None:
    n = 240
    colour, quality = random.integers(0, 2, n), random.integers(3, 9, n)
    table = {
        "fixed acidity": (6 + 2 * colour + random.normal(0, 0.5, n)).round(2),
        "pH": (3.3 - 0.2 * colour + random.normal(0, 0.1, n)).round(2),
        "alcohol": (8 + 0.6 * quality + random.normal(0, 0.3, n)).round(1),
        "quality": quality,
        "colour": np.where(colour, "red", "white"),
    }
    pd.DataFrame(table).to_csv(home / "wine.csv", index=False)


def photograph(path: Path, colour: tuple[int, int, int], random: np.random.Generator) -> None:
    pixels = np.asarray(colour) + random.normal(0, 25, (24, 24, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)


def pets(home: Path, random: np.random.Generator) -> None:
    for number in range(60):
        photograph(home / f"pets/cat/{number}.jpg", (200, 120, 60), random)
        photograph(home / f"pets/dog/{number}.png", (60, 120, 200), random)


def people(home: Path, random: np.random.Generator) -> None:
    rows = []
    for number in range(150):
        race, age = number % 3, int(random.integers(1, 90))
        colour = np.array([(220, 90, 90), (90, 220, 90), (90, 90, 220)][race]) * age / 90
        photograph(home / f"people/photos/{number:04}.jpg", colour, random)
        rows.append({"image": f"photos/{number:04}.jpg", "age": age, "race": race})
    photograph(home / "people/photos/unused.jpg", (0, 0, 0), random)
    pd.DataFrame(rows).to_csv(home / "people/people.csv", index=False)


def shapes(home: Path, random: np.random.Generator) -> None:
    images, annotations = [], []
    for number in range(150):
        image = Image.fromarray(random.integers(0, 60, (32, 32, 3), dtype=np.uint8))
        kind = number % 3
        left, top = (int(each) for each in random.integers(2, 14, 2))
        if kind:
            corners = (left, top, left + 14, top + 14)
            draw = ImageDraw.Draw(image)
            (draw.ellipse if kind == 1 else draw.rectangle)(
                corners, fill=(250, 250, 40) if kind == 1 else (40, 250, 250)
            )
            annotations.append({"id": number, "image_id": number, "category_id": kind, "bbox": [left, top, 14, 14]})
        images.append({"id": number, "file_name": f"{number}.png", "width": 32, "height": 32})
        (home / "shapes/images").mkdir(parents=True, exist_ok=True)
        image.save(home / f"shapes/images/{number}.png")
    categories = [{"id": 1, "name": "disc"}, {"id": 2, "name": "square"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (home / "shapes/annotations.json").write_text(json.dumps(content))


def garden(home: Path, random: np.random.Generator) -> None:
    for number in range(200):
        flower, petals = random.integers(2), random.integers(5, 40)
        name = f"{('daisy', 'tulip')[flower]}_{petals}_{number}.jpg"
        photograph(home.parent / f"clone/data/raw/garden/{name}", (40 + 5 * petals, 200 * flower, 90), random)


# How the data is made, and the heads with the least that each main metric must beat its baseline by.
DATA = {
    "wine": (wine, {"quality": ("mae", -0.3), "colour": ("accuracy", 0.2)}),
    "pets": (pets, {"class": ("accuracy", 0.3)}),
    "people": (people, {"age": ("mae", -5.0), "race": ("accuracy", 0.3)}),
    "shapes": (shapes, {"class": ("accuracy", 0.3), "box": ("iou", 0.05)}),
    "garden": (garden, {"flower": ("accuracy", 0.2), "petals": ("mae", -3.0)}),
}


def test_each_example_has_data():
    assert EXAMPLES.keys() == DATA.keys()


def write_files(folder: Path, name: str) -> None:
    """Write the files of an example."""
    for _, text in EXAMPLES[name]:
        if path := file_of(text):
            (folder / path).write_text(text, encoding="utf-8")


def file_of(text: str) -> str | None:
    """Return the path in the first lines of a block that is a file, or None."""
    found = re.search(r"\((conf/\S+\.yaml)\)|^# ((?:extensions|src)/\S+\.py)", text)
    return found and (found[1] or found[2])


def test_a_sweep_shows_the_main_metric_that_the_head_of_the_page_says(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "extensions").mkdir()
    (tmp_path / "src/manyheads/inputs").mkdir(parents=True)
    write_files(tmp_path, "garden")
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("extensions", "extensions.garden"):  # of another test, and for other tests
        monkeypatch.setitem(sys.modules, module, None)
        del sys.modules[module]
    shown = main_metrics(composition.compose(tmp_path, ["data=garden"]))["petals"]
    assert (shown.name, shown.greater_is_better) == ("within_1", True)


@pytest.fixture
def clone(tmp_path, warm_python):
    """Return an empty clone, and the variables of a user's shell in it."""
    folder, home = tmp_path / "clone", tmp_path / "home"
    home.mkdir()
    copy_project(folder)
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(warm_python)
    (programs / "dvc").symlink_to(Path(sys.executable).parent / "dvc")
    (programs / "activate").write_text(f'export PATH="{programs}:$PATH"\n')
    (folder / ".venv/.installed").touch()
    foreign = ("MLFLOW_", "DVC_", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "MAKE", "MFLAGS")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    variables |= {"HOME": str(home), "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org"}
    variables |= {"GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org"}
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "clone"]):
        subprocess.run(["git", *command], cwd=folder, env=variables, check=True)
    return folder, home, variables


@pytest.mark.parametrize("name", DATA)
def test_an_example_goes_from_a_clone_to_a_report(name, clone):
    folder, home, variables = clone
    make, expected = DATA[name]
    if name != "wine":  # the audit of one example is enough
        config = folder / "conf/config.yaml"
        config.write_text(config.read_text().replace("folds: 3", "folds: 0"))
    make(home, np.random.default_rng(0))
    write_files(folder, name)
    for language, text in EXAMPLES[name]:
        if language == "sh":
            done = subprocess.run(["sh", "-ec", text], cwd=folder, env=variables, capture_output=True, text=True)
            assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        elif not file_of(text):
            shown = [line.strip() for line in text.splitlines()]
            real = (folder / f"conf/data/{name}.yaml").read_text("utf-8")
            assert not [line for line in shown if line not in real], real
    assert "At a glance" in (folder / "reports/report.html").read_text("utf-8")
    metrics = json.loads((folder / "reports/metrics.json").read_text())
    assert metrics["baseline"].keys() == expected.keys()
    for head, (metric, margin) in expected.items():
        difference = metrics[head][metric] - metrics["baseline"][head][metric]
        assert difference <= margin if margin < 0 else difference >= margin, (head, metrics)
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True).stdout
    assert "data/raw" not in changed
