"""A network with a frozen pretrained trunk, from the audit to an answer for a photograph."""

import io

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import stand_in_weights
from conftest import make_tiny_project
from manyheads.commands import predict
from manyheads.encoders.published import PUBLISHED
from manyheads.errors import MachineError
from manyheads.modeling import saving
from manyheads.runtime import tensorflow
from manyheads.stages import audit, evaluate, report, train

pytestmark = pytest.mark.slow

SMALL = (
    "model=face", "inputs.image.image_size=16", "model.hidden=64", "train.epochs=8", "train.batch_size=32",
    "train.learning_rate=0.01", "train.augment=0", "audit.folds=2", "audit.epochs=3",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory, migrated_store, make_config):
    layout = make_tiny_project(tmp_path_factory.mktemp("project"), migrated_store)
    config = make_config(*SMALL)
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("weights")
        stand_in_weights.install(patch, folder)
        for stage in (audit, train):
            stage.run(config, layout, layout)
        (folder / "face.npz").unlink()  # a trained model has its weights
        for stage in (evaluate, report):
            stage.run(config, layout, layout)
    return layout, config


def test_the_heads_learn(trained):
    layout, _ = trained
    assert pd.read_csv(layout.history)["val/score"].max() > 0.8
    issues = pd.read_csv(layout.label_issues)
    assert set(issues["head"]) == {"age", "race", "gender"}


def test_an_answer_for_a_photograph_is_that_of_the_saved_model(trained, tmp_path, capsys):
    layout, config = trained
    images = np.load(layout.packed("image"))[:3]
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    capsys.readouterr()
    predict.main([*(str(tmp_path / f"{number}.png") for number in range(3)), "--model", str(layout.model)])
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    tensorflow.require_tensorflow()
    outputs = saving.load(layout.model).predictor()({"image": images})
    np.testing.assert_allclose(table["age"], outputs["age"][:, 0], atol=0.06)
    race = config.data.heads["race"]
    assert table["race"].tolist() == [race.class_names[i] for i in outputs["race"].argmax(axis=1)]


def test_the_card_and_the_page_name_the_weights_and_their_terms(trained):
    layout, _ = trained
    card, page = (path.read_text(encoding="utf-8") for path in (layout.model_card, layout.report))
    assert "\n## Pretrained weights\n" in card
    for topic, text in PUBLISHED["face"].description.items():
        assert f"\n- {topic}: {text}.\n" in card
        assert f"weights: {topic.lower()}" in page
        assert text in page


def test_the_run_names_the_weights(trained):
    layout, _ = trained
    mlflow.set_tracking_uri(f"sqlite:///{layout.root}/mlflow.db")
    (run,) = mlflow.MlflowClient().search_runs(["1"])
    assert (run.data.params["model.weights"], run.data.params["model.frozen_blocks"]) == ("face", "all")


@pytest.mark.parametrize("stage", [audit, train], ids=["audit", "train"])
def test_without_the_weights_a_stage_says_how_to_fetch_them(stage, tiny_project, make_config, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MachineError, match=r"face\.npz is missing: `python -m manyheads weights face` fetches"):
        stage.run(make_config(*SMALL), tiny_project, tiny_project)
