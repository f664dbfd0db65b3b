import sys

import pytest

from manyheads import datasets, extensions
from manyheads.errors import ConfigError

MINE = """
from typing import Literal

from manyheads.datasets import Table
from manyheads.datasets.documentation import drawn
from manyheads.encoders.base import Encoder
from manyheads.heads import Regression

DATASET = Table(drawn("to test", "none"))


class Doubled(Regression):
    kind: Literal["mine.own:Doubled"]

    def read(self, value):
        return super().read(2 * int(value))


class Plain(Encoder):
    encoder: Literal["mine.own:Plain"]

    def refuse(self, inputs):
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
        ("mine.own", "is no reference"),
        ("mine..own:X", "is no reference"),
        ("../mine:X", "is no reference"),
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
        "experiment=table",
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
    with pytest.raises(ConfigError, match="is no Encoder"):
        make_config("extensions=[mine]", "experiment=table", "model.encoder=mine.own:Doubled")
    with pytest.raises(ConfigError, match="is no Dataset"):
        datasets.get("mine.own:Doubled", ["mine"])
