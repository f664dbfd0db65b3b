import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from manyheads import datasets, encoders, extensions, heads, inputs
from manyheads.errors import ConfigError

MINE = """
from typing import Literal

from manyheads.datasets import Table
from manyheads.datasets.documentation import synthetic
from manyheads.encoders.base import Encoder
from manyheads.heads import Regression

DATASET = Table(synthetic("to test", "none"))


class Doubled(Regression):
    kind: Literal["mine.own:Doubled"]

    def read(self, value):
        return super().read(2 * int(value))


class Plain(Encoder):
    encoder: Literal["mine.own:Plain"]

    def conflict_with(self, inputs):
        return None

    def features(self, inputs, tensors, heads, precision, *, folded):
        (tensor,) = tensors.values()
        return dict.fromkeys(heads, tensor)


print("imported")
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/own.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("mine", "mine.own"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("reference", ["mine.own:DATASET", "minefield:X", "os:system", "mine.own.x:y"])
def test_what_no_prefix_allows_is_refused_before_it_is_looked_for(reference, mine, capsys):
    with pytest.raises(ConfigError, match="is not imported: 'extensions' lists other; add its package if you trust it"):
        extensions.load(reference, ["other"])
    assert "imported" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("mine.own", "is not a reference"),
        ("mine..own:X", "is not a reference"),
        ("../mine:X", "is not a reference"),
        ("minefield:X", "is not imported"),
        ("mine.other:X", "cannot be imported"),
        ("mine.own:Missing", "cannot be imported"),
    ],
)
def test_references_that_lead_nowhere_are_named(reference, message, mine):
    with pytest.raises(ConfigError, match=message):
        extensions.load(reference, ["mine"])


def test_a_dataset_an_encoder_and_a_head_of_ones_own_are_taken_by_the_configuration(mine, make_config):
    config = make_config(
        "experiment=numbers",
        "extensions=[mine]",
        "data.name=mine.own:DATASET",
        "model.encoder=mine.own:Plain",
        "data.heads.one={kind: 'mine.own:Doubled', unit: u, minimum: 0, maximum: 9}",
        "~data.heads.one.width",
    )
    assert datasets.get(config.data.name, config.extensions).documentation.labels == "none"
    assert type(config.model).__name__ == "Plain"
    assert config.data.heads["one"].read("4") == (8,)
    assert config.model_dump(mode="json")["data"]["heads"]["one"]["kind"] == "mine.own:Doubled"


def test_what_is_none_of_the_family_is_refused(mine, make_config):
    with pytest.raises(ConfigError, match="is not a subclass of Encoder"):
        make_config("extensions=[mine]", "experiment=numbers", "model.encoder=mine.own:Doubled")
    with pytest.raises(ConfigError, match="is not a Dataset"):
        datasets.get("mine.own:Doubled", ["mine"])


NEW_MEMBERS = {
    "heads/score_of_wine.py": """
from typing import Literal

from manyheads.heads.regression import Regression


class ScoreOfWine(Regression):
    kind: Literal["score_of_wine"] = "score_of_wine"
""",
    "inputs/sentence.py": """
from typing import Literal

from manyheads.inputs.text import TextInput


class Sentence(TextInput):
    kind: Literal["sentence"] = "sentence"
""",
    "encoders/wide.py": """
from typing import Literal

from manyheads.encoders.pass_through import PassThroughEncoder


class Wide(PassThroughEncoder):
    encoder: Literal["wide"] = "wide"
""",
    "datasets/wine.py": """
from manyheads.datasets.documentation import synthetic
from manyheads.datasets.table import Table

DATASET = Table(synthetic("to test", "none"))
""",
    "datasets/synthetic/cheese.py": """
from manyheads.datasets.documentation import synthetic
from manyheads.datasets.table import Table

DATASET = Table(synthetic("to test", "none"))
""",
}

ASK = """
import sys
from manyheads import datasets, encoders, heads, inputs
print(heads.HEADS["score_of_wine"].__name__, inputs.INPUTS["sentence"].__name__, encoders.ENCODERS["wide"].__name__)
print("wine" in datasets.BUILT_IN, "cheese" in datasets.BUILT_IN, len(datasets.BUILT_IN))
print([name for name in ("keras", "tensorflow", "pandas", "scipy", "sklearn") if name in sys.modules])
"""


def test_a_new_member_is_one_new_file_and_no_family_imports_anything_slow(tmp_path):
    shutil.copytree(Path(extensions.__file__).parent, tmp_path / "manyheads")
    for name, text in NEW_MEMBERS.items():
        (tmp_path / "manyheads" / name).write_text(text)
    run = subprocess.run(
        [sys.executable, "-c", ASK], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    found = f"True True {len(datasets.BUILT_IN) + 2}"
    assert run.stdout.splitlines() == ["ScoreOfWine Sentence Wide", found, "[]"]


@pytest.mark.parametrize(
    ("family", "names"),
    [
        (heads.HEADS, ["binary", "box", "categorical", "regression", "vector"]),
        (inputs.INPUTS, ["image", "numbers", "text"]),
        (
            encoders.ENCODERS,
            [
                "article",
                "compact",
                "detector",
                "late_fusion",
                "pass_through",
                "pretrained",
                "reader",
                "text_convolution",
            ],
        ),
        (
            datasets.BUILT_IN,
            ["class_folders", "coco", "numbers", "objects", "posts", "questions", "sample", "table", "utkface"],
        ),
    ],
    ids=["heads", "inputs", "encoders", "datasets"],
)
def test_the_built_in_members_are_these(family, names):
    assert sorted(family) == names


def test_two_members_of_one_name_are_refused(tmp_path, monkeypatch):
    for name in ("first", "second"):
        (tmp_path / "cellar").mkdir(exist_ok=True)
        (tmp_path / f"cellar/{name}.py").write_text(NEW_MEMBERS["inputs/sentence.py"])
    (tmp_path / "cellar/__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="kind 'sentence' is the name of Sentence and of Sentence"):
        extensions.built_in_classes("cellar", inputs.Input, "kind")
    for name in ("cellar", "cellar.first", "cellar.second"):
        sys.modules.pop(name)


def test_a_dataset_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match=r"data\.name=wine is unknown: the datasets are class_folders, coco, numbers"):
        datasets.get("wine")
