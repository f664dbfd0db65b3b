import io
import os
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from builders import objective_for
from conftest import ROOT
from manyheads.commands import predict
from manyheads.encoders import CompactEncoder
from manyheads.errors import DataError
from manyheads.heads import Categorical, LabelStatistics, Regression
from manyheads.inputs import ImageInput
from manyheads.modeling import build, inference, saving
from manyheads.modeling.build import build_network
from manyheads.runtime import tensorflow

STATISTICS = {"age": LabelStatistics(30.0, 10.0), "race": LabelStatistics(30.0, 10.0)}
IMAGES = {"image": ImageInput(image_size=16, duplicate_correlation=1)}
HEADS = {
    "age": Regression(name="age", unit="years", minimum=0, maximum=116),
    "race": Categorical(name="race", classes=("a", "b", "c")),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    tensorflow.require_tensorflow()
    folder = tmp_path_factory.mktemp("model")
    encoder = CompactEncoder(stem=(8,), widths=(8,), blocks=(1,), dropout=0)
    losses = {"age": "mae", "race": "categorical_crossentropy"}
    network = build_network(encoder, objective_for(HEADS, losses, STATISTICS), IMAGES, folded=True)
    saving.save(folder, network, saving.ModelCard(data="sample", inputs=IMAGES, heads=HEADS))
    return folder


def jpeg(seed=0, size=(40, 30)):
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def test_files_folders_and_archives_give_a_row_an_image(saved, tmp_path):
    (tmp_path / "one.jpg").write_bytes(jpeg(1))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/two.jpg").write_bytes(jpeg(2))
    (tmp_path / "folder/broken.jpg").write_bytes(jpeg(3)[:200])
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("three.jpg", jpeg(1))
        archive.writestr("page.jpg", b"<html>")
    output = tmp_path / "predictions.csv"
    paths = [str(tmp_path / name) for name in ("one.jpg", "folder", "archive.zip")]
    predict.main([*paths, "--model", str(saved), "--output", str(output)])
    table = pd.read_csv(output, keep_default_na=False)
    assert list(table) == ["path", "age", "race", "race_a", "race_b", "race_c", "error"]
    assert table["path"].tolist() == [paths[0], "folder/broken.jpg", "folder/two.jpg", "three.jpg", "page.jpg"]
    assert table["error"].map(bool).tolist() == [False, True, False, False, True]
    assert table.loc[0, "age":"race_c"].tolist() == table.loc[3, "age":"race_c"].tolist()
    assert table.loc[1, ["age", "race"]].tolist() == ["", ""]
    assert table.loc[1, "error"].startswith("DECODE_TRUNCATED")


def test_nothing_readable_is_an_error_after_the_table(saved, tmp_path):
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError, match="no sample could be read"):
        predict.main([str(tmp_path / "page.jpg"), "--model", str(saved), "--output", str(tmp_path / "out.csv")])
    assert len(pd.read_csv(tmp_path / "out.csv")) == 1


def test_what_does_not_exist_is_named_before_anything_is_loaded(tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist"):
        predict.main([str(tmp_path / "nowhere"), "--model", str(tmp_path)])


@pytest.mark.slow
def test_predict_needs_no_mlflow_and_no_dvc(saved, tmp_path):
    (tmp_path / "one.jpg").write_bytes(jpeg(1))
    code = (
        "import sys; sys.modules['mlflow'] = sys.modules['dvc'] = None\n"
        "from manyheads.__main__ import main\n"
        f"main(['predict', 'one.jpg', '--model', {str(saved)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "path,age,race,race_a,race_b,race_c,error"
    assert len(done.stdout.splitlines()) == 2


def test_a_model_with_a_variance_gives_the_ends_of_an_interval(tmp_path):
    encoder, losses = (
        CompactEncoder(stem=(8,), widths=(8,), blocks=(1,), dropout=0),
        {"age": "gaussian", "race": "categorical_crossentropy"},
    )
    network = build_network(encoder, objective_for(HEADS, losses, STATISTICS), IMAGES, folded=True)
    saving.save(tmp_path, network, saving.ModelCard(data="sample", inputs=IMAGES, heads=HEADS))
    members = [("one.jpg", {"image": jpeg(1)}), ("broken.jpg", {"image": b"<html>"})]
    table = predict.predict_all(saving.load(tmp_path), members)
    assert list(table) == ["path", "age", "age_low", "age_high", "race", "race_a", "race_b", "race_c", "error"]
    assert table.loc[0, "age_high"] - table.loc[0, "age_low"] == pytest.approx(2 * 16.45, abs=0.011)
    assert table.loc[1, "age_low":"race_c"].isna().all()


def test_batches_do_not_change_the_answer(saved, monkeypatch):
    loaded = saving.load(saved)
    members = [(f"{i}.jpg", {"image": jpeg(i)}) for i in range(5)]
    whole = predict.predict_all(loaded, members)
    monkeypatch.setattr(inference, "PREDICTION_BATCH", 2)
    pd.testing.assert_frame_equal(whole, predict.predict_all(loaded, members), atol=0.011)


@pytest.mark.slow
def test_a_name_that_is_not_utf8_costs_nothing(saved, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, data in {
        b"a.jpg": jpeg(1),
        b"b\xff.jpg": jpeg(2),
        b"c\xe9\n.jpg": b"<html>",
        "ü.jpg".encode(): jpeg(1),
    }.items():
        (folder / os.fsdecode(name)).write_bytes(data)
    output = tmp_path / "predictions.csv"
    predict.main([str(folder), "--model", str(saved), "--output", str(output)])
    table = pd.read_csv(output, keep_default_na=False)
    assert table["path"].tolist() == ["folder/a.jpg", "folder/b\\xff.jpg", "folder/c\\xe9\n.jpg", "folder/ü.jpg"]
    assert table["error"].map(bool).tolist() == [False, False, True, False]
    assert table.loc[0, "age":"race_c"].tolist() == table.loc[3, "age":"race_c"].tolist()
    command = [sys.executable, "-m", "manyheads", "predict", folder / os.fsdecode(b"b\xff.jpg"), "--model", saved]
    for locale in ("C.UTF-8", "C"):
        done = subprocess.run(command, capture_output=True, env={**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0"})
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[1].startswith(str(folder).encode() + b"/b\\xff.jpg,")


@pytest.mark.parametrize(("precision", "close"), [("float32", 1e-6), ("mixed_bfloat16", 2e-3)])
def test_a_photograph_gets_the_same_prediction_alone_and_in_a_folder(precision, close, tmp_path, monkeypatch):
    """The order of sums depends on the size of a batch, and on some processors on the row in it; all have one size."""
    monkeypatch.setattr(inference, "fastest_precision", lambda: precision)
    encoder = CompactEncoder(stem=(8,), widths=(8, 16), blocks=(1, 1), dropout=0)
    losses = {"age": "soft_label", "race": "categorical_crossentropy"}
    network = build_network(encoder, objective_for(HEADS, losses, STATISTICS), IMAGES, folded=True)
    network = build.averaged_over_flip(network, IMAGES)
    saving.save(tmp_path, network, saving.ModelCard(data="sample", inputs=IMAGES, heads=HEADS, precision=precision))
    predictor = saving.load(tmp_path).predictor()
    sizes, outputs = set(), predictor._outputs
    monkeypatch.setattr(predictor, "_outputs", lambda inputs: sizes.add(len(inputs["image"])) or outputs(inputs))
    images = np.random.default_rng(0).integers(0, 255, (300, 16, 16, 3), dtype=np.uint8)
    together = predictor({"image": images})
    for i in (0, 1, 63, 64, 255, 299):
        alone = predictor({"image": images[i : i + 1]})
        for name, values in together.items():
            assert len(values) == 300
            np.testing.assert_allclose(alone[name], values[i : i + 1], rtol=close, atol=close)
    assert sizes == {inference.PREDICTION_BATCH}


def test_the_readmes_python_predicts_as_the_command_does(saved, tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    shutil.copytree(saved, tmp_path / "models")
    (tmp_path / "photograph.jpg").write_bytes(jpeg(1))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    predict.main(["photograph.jpg", "--model", "models", "--output", "predictions.csv"])
    (row,) = pd.read_csv("predictions.csv").to_dict("records")
    assert printed == {"age": str(round(row["age"])), "race": row["race"]}
