import ast
import io
import itertools
import json
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from conftest import TWO_BLOCKS, make_tiny_project
from manyheads.data.tables import read_predictions
from manyheads.datasets import archives
from manyheads.errors import IntegrityError, MachineError
from manyheads.modeling import inference, saving
from manyheads.paths import Paths
from manyheads.stages import evaluate, train
from manyheads.training import checkpoint, fingerprint, loop
from real import ARCHIVE, SKIP_REASON

pytestmark = pytest.mark.slow

PACKAGE = Path(train.__file__).parents[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, migrated_store, tiny_config):
    layout = make_tiny_project(tmp_path_factory.mktemp("project"), migrated_store)
    config = tiny_config("loss=age_heavy", *TWO_BLOCKS, "train.epochs=6")
    train.run(config, layout, layout)
    mlflow.set_tracking_uri(f"sqlite:///{layout.root}/mlflow.db")
    (run,) = mlflow.MlflowClient().search_runs(["1"])
    return layout, config, run


def test_the_history_has_a_row_an_epoch(trained):
    layout, config, _ = trained
    history = pd.read_csv(layout.history)
    assert history["epoch"].tolist() == list(range(1, config.train.epochs + 1))
    assert {"train/loss", "val/loss", "val/age/mae", "val/race/accuracy", "val/gender/accuracy", "val/score"} <= set(
        history
    )
    assert history["val/score"].max() > 1.0


def test_the_run_is_finished_and_tied_to_code_and_data(trained):
    _, config, run = trained
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("loss=age_heavy image_size=16")
    assert "loss=age_heavy" in json.loads(run.data.tags["differs"])
    assert run.data.tags["loss"] == "age_heavy"
    assert run.data.params["loss.weights.age"] == "4.0"
    assert run.data.params["train.learning_rate"] == str(config.train.learning_rate)
    assert run.data.params["model.widths"] == "8,16"
    assert len(run.inputs.dataset_inputs) == 1
    assert run.inputs.dataset_inputs[0].dataset.name == "sample-train"


def test_the_run_has_every_epoch_and_the_best(trained):
    layout, config, run = trained
    client = mlflow.MlflowClient()
    history = pd.read_csv(layout.history)
    logged = client.get_metric_history(run.info.run_id, "val/age/mae")
    assert [metric.step for metric in logged] == history["epoch"].tolist()
    assert [metric.value for metric in logged] == pytest.approx(history["val/age/mae"].tolist())
    best = history.loc[history["val/score"].idxmax()]
    assert run.data.metrics["best/epoch"] == best["epoch"]
    assert run.data.metrics["best/val/score"] == pytest.approx(best["val/score"])
    assert run.data.metrics["wall_seconds"] > 0
    assert {item.path for item in client.list_artifacts(run.info.run_id)} >= {
        "history.csv", "split.json", "params.yaml", "network.html", "layers.txt",
    }  # fmt: skip


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, migrated_store, tiny_config):
    """Return a project and a run whose model averages over mirror images, as every UTKFace recipe does."""
    layout = make_tiny_project(tmp_path_factory.mktemp("mirrored"), migrated_store)
    config = tiny_config("train.flip_tta=true", "train.epochs=2")
    for stage in (train, evaluate):
        stage.run(config, layout, layout)
    mlflow.set_tracking_uri(f"sqlite:///{layout.root}/mlflow.db")
    (logged,) = mlflow.search_logged_models(["1"], output_format="list")
    return layout, config, logged.artifact_location


@pytest.fixture
def in_mlflow(evaluated, monkeypatch):
    """Return MLflow's model as a function from the bytes of images to a table."""
    monkeypatch.setattr(sys, "path", list(sys.path))  # to which MLflow adds the model's code
    model = mlflow.pyfunc.load_model(evaluated[2])
    return lambda files: model.predict(pd.DataFrame({"image": files}))


def assert_close(first, second):
    assert list(first) == list(second) == ["age", "race", "gender"]
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], rtol=1e-4, atol=1e-5, err_msg=name)


def in_keras_alone(layout, heads, images):
    """Return what ``model.keras`` makes of images in Keras, each head by name."""
    import keras

    outputs = keras.saving.load_model(layout.model / "model.keras", compile=False).predict(images, verbose=0)
    return {name: inference.outputs_of_head(head, outputs) for name, head in heads.items()}


def assert_answers(answers, heads, predicted):
    """Compare a table with the columns of outputs, to the last digit."""
    for name, head in heads.items():
        for column, values in head.prediction_columns(predicted[name]).items():
            assert answers[column].tolist() == values.tolist(), column


def test_the_model_in_mlflow_and_in_the_folder_is_the_one_that_was_evaluated(evaluated, in_mlflow):
    layout, config, _ = evaluated
    heads = config.data.heads
    table = read_predictions(layout.predictions, heads)
    samples = pd.read_csv(layout.samples).set_index("path").loc[table["path"]]
    images = np.load(layout.packed("image"))[samples["row"]]
    predicted = saving.load(layout.model).predictor()({"image": images})
    assert_close(predicted, in_keras_alone(layout, heads, images))
    assert_answers(table, heads, predicted)
    assert_answers(in_mlflow([png(pixels) for pixels in images]), heads, predicted)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.skipif(ARCHIVE is None, reason=SKIP_REASON)
def test_they_agree_on_real_photographs_and_bfloat16_is_the_only_difference_of_predict(
    evaluated, in_mlflow, monkeypatch
):
    layout, config, _ = evaluated
    heads, predictor = config.data.heads, saving.load(layout.model).predictor()
    files = [data for _, data in itertools.islice(archives.contents(ARCHIVE), 400)]
    images = np.stack([config.inputs["image"].encode(data)[0] for data in files])
    predicted, in_keras = predictor({"image": images}), in_keras_alone(layout, heads, images)
    assert_close(predicted, in_keras)
    assert_answers(in_mlflow(files), heads, predicted)
    assert_close(predicted, predictor({"image": np.ascontiguousarray(images[:, :, ::-1])}))
    monkeypatch.setattr(inference, "fastest_precision", lambda: "mixed_bfloat16")
    network = saving.load(layout.model).keras_model
    in_bfloat16 = inference.Predictor(network, config.data.heads, "mixed_bfloat16", config.inputs)({"image": images})
    for name in ("race", "gender"):
        np.testing.assert_allclose(in_bfloat16[name], in_keras[name], atol=0.1)
        assert np.any(in_bfloat16[name] != predicted[name])


def test_a_finished_training_leaves_no_checkpoint(trained):
    layout, _, _ = trained
    assert not list(layout.resume.glob("*.npz"))


def test_an_interrupted_stage_continues_in_the_same_run(tiny_project, tiny_config, monkeypatch):
    layout, config = tiny_project, tiny_config()
    save = checkpoint.save_checkpoint

    def save_and_interrupt(path, model, progress):
        save(path, model, progress)
        if len(progress.history) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", save_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        train.run(config, layout, layout)
    assert not layout.model.exists()
    monkeypatch.setattr(loop, "save_checkpoint", save)
    train.run(config, layout, layout)
    mlflow.set_tracking_uri(f"sqlite:///{layout.root}/mlflow.db")
    (run,) = mlflow.MlflowClient().search_runs(["1"])
    assert run.info.status == "FINISHED"
    steps = [metric.step for metric in mlflow.MlflowClient().get_metric_history(run.info.run_id, "val/score")]
    assert sorted(set(steps)) == [1, 2, 3]
    assert len(pd.read_csv(layout.history)) == 3


def test_what_shapes_a_training_is_in_its_fingerprint(tiny_project, tiny_config):
    layout = tiny_project
    digest = fingerprint.digest(tiny_config(), layout)
    assert fingerprint.digest(tiny_config("tracking.experiment=other"), layout) == digest
    for override in ("seed=2", "loss=age_heavy", "train.epochs=4", "model.widths=[16]", "inputs.image.image_size=32"):
        assert fingerprint.digest(tiny_config(override), layout) != digest
    layout.splits.write_text(layout.splits.read_text() + "\n")
    assert fingerprint.digest(tiny_config(), layout) != digest


def test_a_store_that_cannot_be_reached_costs_the_run_alone(tiny_project, tiny_config, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    layout = tiny_project
    train.run(tiny_config("train.epochs=1"), layout, layout)
    assert (layout.model / "model.keras").is_file()
    warnings = [record.message for record in caplog.records if "MLflow did not take" in record.message]
    assert len(warnings) == 1


def test_a_split_of_another_pack_is_refused(tiny_project, tiny_config):
    samples = pd.read_csv(tiny_project.samples)
    samples.iloc[:-1].to_csv(tiny_project.samples, index=False)
    with pytest.raises(IntegrityError, match="dvc repro split"):
        train.run(tiny_config(), tiny_project, tiny_project)
    with pytest.raises(IntegrityError, match=r"not uint8 of shape \(n, 32, 32, 3\)"):
        samples.to_csv(tiny_project.samples, index=False)
        train.run(tiny_config("inputs.image.image_size=32"), tiny_project, tiny_project)


def test_without_tensorflow_one_line_says_what_to_install(tiny_project, tiny_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MachineError, match=r"pip install 'manyheads\[cpu\]'"):
        train.run(tiny_config(), tiny_project, tiny_project)


def test_only_evaluate_reads_the_test_subset():
    readers = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "load_subset":
                assert isinstance(node.args[3], ast.Constant), f"{path}: the subset must be written out"
                readers.add((path.stem, node.args[3].value))
    assert {name for name, subset in readers if subset == "test"} == {"evaluate"}
    assert ("run", "train") in readers


def test_training_does_not_depend_on_test_samples(tiny_project, tiny_config):
    layout, config = tiny_project, tiny_config("train.epochs=1", "train.deterministic=true")
    train.run(config, layout, Paths(layout.root / "first"))
    images = np.load(layout.packed("image"))
    splits = pd.read_csv(layout.splits)
    images[(splits["subset"] == "test").to_numpy()] = 0
    np.save(layout.packed("image"), images)
    train.run(config, layout, Paths(layout.root / "second"))
    first, second = (pd.read_csv(layout.root / name / "reports/history.csv") for name in ("first", "second"))
    pd.testing.assert_frame_equal(first, second)
