import io
import itertools
import os
import re
import shlex
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
from manyheads.commands.given import Given
from manyheads.encoders import CompactEncoder
from manyheads.errors import ConfigError, DataError, IntegrityError
from manyheads.heads import Categorical, LabelStatistics, Regression
from manyheads.inputs import ImageInput
from manyheads.modeling import build, inference, novelty, saving
from manyheads.modeling.build import build_network
from manyheads.prediction.tables import PLACE
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
    import keras

    keras.utils.set_random_seed(1)  # the weights decide what is far
    folder = tmp_path_factory.mktemp("model")
    encoder = CompactEncoder(stem=(8,), widths=(8,), blocks=(1,), dropout=0)
    losses = {"age": "mae", "race": "categorical_crossentropy"}
    network = build_network(encoder, objective_for(HEADS, losses, STATISTICS), IMAGES, folded=True)
    saving.save(folder, network, saving.ModelCard(data="sample", inputs=IMAGES, heads=HEADS))
    return folder


def predict_all(saved, members, find_faces=False):
    with predict.predicting(saved.card, lambda: saved, Given(iter(members), None), find_faces) as predictions:
        return pd.concat(itertools.chain.from_iterable(predictions.parts), ignore_index=True)


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
    inside = ["folder/broken.jpg", "folder/two.jpg", "archive.zip/three.jpg", "archive.zip/page.jpg"]
    predict.main([*paths, "--model", str(saved), "--output", str(output)])
    table = pd.read_csv(output, keep_default_na=False)
    assert list(table) == ["path", "age", "race", "race_a", "race_b", "race_c", "note", "error"]
    assert table["path"].tolist() == [paths[0], *(str(tmp_path / name) for name in inside)]
    assert table["error"].map(bool).tolist() == [False, True, False, False, True]
    assert table.loc[0, "age":"race_c"].tolist() == table.loc[3, "age":"race_c"].tolist()
    assert table.loc[1, ["age", "race"]].tolist() == ["", ""]
    assert table.loc[1, "error"].startswith("DECODE_TRUNCATED")


def test_nothing_readable_is_an_error_after_the_table(saved, tmp_path):
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError, match="no sample could be read"):
        predict.main([str(tmp_path / "page.jpg"), "--model", str(saved), "--output", str(tmp_path / "out.csv")])
    assert len(pd.read_csv(tmp_path / "out.csv")) == 1


@pytest.fixture
def no_model(monkeypatch):
    """Fail if the model is loaded, which takes TensorFlow and seconds."""

    def refuse(*arguments):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(saving, "load", refuse)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", r"nowhere does not exist: give a \.jpg"),
        ("empty", "empty holds no files"),
        ("texts", r"texts holds no sample: give a \.jpg"),
        ("notes.txt", r"notes\.txt is of a kind that is not read: give a \.jpg"),
        ("texts.zip", r"texts\.zip holds no sample"),
        ("other.csv", r"other\.csv has no column 'image' for the input image"),
        ("text.jpg", r"no sample could be read in .*text\.jpg: DECODE_UNIDENTIFIED"),
    ],
)
def test_wrong_input_is_named_before_the_model_is_loaded(name, message, saved, tmp_path, no_model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    for each in ("texts/a.txt", "notes.txt", "text.jpg"):
        (tmp_path / each).write_text("a text")
    with zipfile.ZipFile("texts.zip", "w") as archive:
        archive.writestr("a.txt", "a text")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "good.jpg").write_bytes(jpeg())
    paths = [name] if name == "text.jpg" else ["good.jpg", name]
    with pytest.raises(DataError, match=message) as error:
        predict.main([*paths, "--model", str(saved)])
    assert "data.path" not in str(error.value)


@pytest.mark.slow
def test_wrong_input_needs_no_tensorflow(saved, tmp_path):
    code = "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None\nfrom manyheads.__main__ import main\n"
    (tmp_path / "text.jpg").write_text("a text")
    for name in ("nowhere.jpg", "text.jpg"):
        command = f"{code}main(['predict', {name!r}, '--model', {str(saved)!r}])"
        done = subprocess.run([sys.executable, "-c", command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 3, done.stderr
        assert "TensorFlow" not in done.stderr


def test_a_path_given_twice_has_two_rows_and_other_kinds_of_files_are_counted(saved, tmp_path, caplog):
    for folder in ("a/x", "b/x"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.jpg").write_bytes(jpeg(len(folder)))
        (tmp_path / folder / "labels.txt").write_text("")
    output = tmp_path / "out.csv"
    paths = [str(tmp_path / name) for name in ("b/x", "a/x", "b/x")]
    with caplog.at_level("INFO"):
        predict.main([*paths, "--model", str(saved), "--output", str(output)])
    assert pd.read_csv(output)["path"].tolist() == [f"{path}/1.jpg" for path in paths]
    assert "1 files of other kinds are not read (1 of .txt)" in caplog.text


def test_a_file_has_the_same_cells_alone_in_a_folder_and_beside_what_cannot_be_read(saved, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.jpg").write_bytes(jpeg(number))
    (folder / "0_broken.jpg").write_bytes(b"<html>")

    def lines(*paths):
        predict.main([*map(str, paths), "--model", str(saved), "--output", str(tmp_path / "out.csv")])
        return (tmp_path / "out.csv").read_text().splitlines()[1:]

    def cells(line):
        return line.partition(",")[2]

    together = {line.partition(",")[0]: cells(line) for line in lines(folder)}
    backwards = lines(*sorted(folder.iterdir(), reverse=True))
    for number in range(5):
        path = folder / f"{number}.jpg"
        assert cells(lines(path)[0]) == together[f"folder/{number}.jpg"]
        assert f"{path},{together[f'folder/{number}.jpg']}" in backwards


class Whole(Regression):
    """A regression whose column has whole numbers."""

    def prediction_columns(self, outputs):
        return {self.name: np.rint(self.values(outputs)).astype(np.int64)}


def test_a_whole_number_stays_one_beside_what_cannot_be_read(saved):
    loaded = saving.load(saved)
    heads = HEADS | {"age": Whole(name="age", unit="years", minimum=0, maximum=116)}
    loaded = loaded._replace(card=loaded.card.model_copy(update={"heads": heads}))
    members = [("one.jpg", {"image": jpeg(1)}), ("broken.jpg", {"image": b"<html>"})]
    alone, beside = (predict_all(loaded, each).to_csv(index=False) for each in (members[:1], members))
    assert alone.splitlines()[1] == beside.splitlines()[1]


@pytest.fixture
def reference(saved):
    """The model with a record of a training on pictures such as ``jpeg`` gives."""
    loaded = saving.load(saved)
    encoded = [IMAGES["image"].encode(jpeg(seed)) for seed in range(600)]
    images = np.stack([each[0] for each in encoded])
    _, features = loaded.predictor().with_features({"image": images})
    directions = novelty.directions_of(features[:300])
    limit = novelty.distance_limit(novelty.distances(features[300:], directions))
    ranges = {"image": {name: (value * 0.9, value * 1.1) for name, value in encoded[0].properties.items()}}
    card = loaded.card.model_copy(update={"reference": novelty.Reference(ranges=ranges, distance_limit=limit)})
    return loaded._replace(card=card, directions=directions)


def test_notes_name_what_is_unlike_the_training_data(reference):
    grey = io.BytesIO()
    Image.new("RGB", (30, 40)).save(grey, "JPEG")
    members = [
        ("usual.jpg", {"image": jpeg(500)}),
        ("wide.jpg", {"image": jpeg(1, size=(40, 400))}),
        ("large.jpg", {"image": jpeg(1, size=(400, 300))}),
        ("black.jpg", {"image": grey.getvalue()}),
        ("broken.jpg", {"image": b"<html>"}),
    ]
    usual, wide, large, black, broken = predict_all(reference, members)["note"]
    assert usual == broken == ""
    assert wide.startswith("aspect ratio 10, in training 0.675 to 0.825")
    assert large.startswith("shorter side in pixels 300, in training 27 to 33")
    assert black.startswith("contrast 0, in training ")
    assert "distance " in black


def test_one_in_a_hundred_like_the_training_data_is_far(reference):
    members = [(f"{seed}.jpg", {"image": jpeg(seed)}) for seed in range(1000, 1400)]
    notes = predict_all(reference, members)["note"]
    assert (notes != "").mean() < 0.04


def test_directions_of_another_model_are_refused(reference):
    with pytest.raises(IntegrityError, match="directions"):
        predict_all(reference._replace(directions=reference.directions[:, 1:]), [("1.jpg", {"image": jpeg()})])


def test_the_record_of_the_training_is_saved_with_the_model_and_belongs_to_it(reference, tmp_path):
    saving.save(tmp_path, reference.keras_model, reference.card, reference.directions)
    loaded = saving.load(tmp_path)
    assert loaded.card.reference == reference.card.reference
    members = [(f"{seed}.jpg", {"image": jpeg(seed, size=(40, 20 + seed))}) for seed in range(5)]
    pd.testing.assert_frame_equal(predict_all(loaded, members), predict_all(reference, members))
    np.save(tmp_path / "directions.npy", reference.directions + 1)
    with pytest.raises(IntegrityError, match="not of one model"):
        saving.read_card(tmp_path)
    (tmp_path / "directions.npy").unlink()
    with pytest.raises(IntegrityError, match="not of one model"):
        saving.read_card(tmp_path)


def test_a_model_without_a_record_of_its_training_says_so(saved, tmp_path, caplog):
    (tmp_path / "one.jpg").write_bytes(jpeg())
    with caplog.at_level("INFO"):
        predict.main([str(tmp_path / "one.jpg"), "--model", str(saved), "--output", str(tmp_path / "out.csv")])
    assert "does not say what it was trained on" in caplog.text


def test_faces_are_only_found_for_models_whose_crops_are_known(saved, tmp_path, no_model):
    (tmp_path / "one.jpg").write_bytes(jpeg())
    with pytest.raises(ConfigError, match="crops faces as utkface does; this model was trained on 'sample'"):
        predict.main([str(tmp_path / "one.jpg"), "--find-faces", "--model", str(saved)])


def test_a_picture_without_a_face_has_a_row_with_the_reason(saved):
    loaded = saving.load(saved)
    loaded = loaded._replace(card=loaded.card.model_copy(update={"data": "utkface"}))
    members = [("one.jpg", {"image": jpeg(1)}), ("broken.jpg", {"image": b"<html>"})]
    table = predict_all(loaded, members, find_faces=True)
    assert list(table) == ["path", *PLACE, "note", "error"]
    assert table["error"].tolist()[0] == "NO_FACE: no face was found"
    assert table["error"].tolist()[1].startswith("DECODE_UNIDENTIFIED")
    assert (table[list(PLACE)] == "").all(axis=None)


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
    assert done.stdout.splitlines()[0] == "path,age,race,race_a,race_b,race_c,note,error"
    assert len(done.stdout.splitlines()) == 2


def test_a_model_with_a_variance_gives_the_ends_of_an_interval(tmp_path):
    encoder, losses = (
        CompactEncoder(stem=(8,), widths=(8,), blocks=(1,), dropout=0),
        {"age": "gaussian", "race": "categorical_crossentropy"},
    )
    network = build_network(encoder, objective_for(HEADS, losses, STATISTICS), IMAGES, folded=True)
    saving.save(tmp_path, network, saving.ModelCard(data="sample", inputs=IMAGES, heads=HEADS))
    members = [("one.jpg", {"image": jpeg(1)}), ("broken.jpg", {"image": b"<html>"})]
    table = predict_all(saving.load(tmp_path), members)
    assert list(table) == ["path", "age", "age_low", "age_high", "race", "race_a", "race_b", "race_c", "note", "error"]
    assert table.loc[0, "age_high"] - table.loc[0, "age_low"] == pytest.approx(2 * 16.45, abs=0.011)
    assert table.loc[1, "age_low":"race_c"].isna().all()


def test_batches_do_not_change_the_answer(saved, monkeypatch):
    loaded = saving.load(saved)
    members = [(f"{i}.jpg", {"image": jpeg(i)}) for i in range(5)]
    whole = predict_all(loaded, members)
    monkeypatch.setattr(inference, "PREDICTION_BATCH", 2)
    pd.testing.assert_frame_equal(whole, predict_all(loaded, members), atol=0.011)


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


def test_the_pages_python_predicts_as_the_command_does(saved, tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/predict.md").read_text(encoding="utf-8"), re.DOTALL)
    shutil.copytree(saved, tmp_path / "models")
    (tmp_path / "photograph.jpg").write_bytes(jpeg(1))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/predict.md", "exec"), {})
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    predict.main(["photograph.jpg", "--model", "models", "--output", "predictions.csv"])
    (row,) = pd.read_csv("predictions.csv").to_dict("records")
    assert printed == {"age": str(round(row["age"])), "race": row["race"]}


def test_the_examples_of_the_page_run(saved, tmp_path, monkeypatch, capsys):
    """Those on pictures, with a model that says it is UTKFace's; the pictures have no faces."""
    loaded = saving.load(saved)
    (tmp_path / "models").mkdir()
    saving.save(tmp_path / "models", loaded.keras_model, loaded.card.model_copy(update={"data": "utkface"}))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "portrait.jpg").write_bytes(jpeg(1))
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday/beach.jpg").write_bytes(jpeg(2))
    with zipfile.ZipFile("more.zip", "w") as archive:
        archive.writestr("more/hill.jpg", jpeg(3))
    (block,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/predict.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = [shlex.split(line, comments=True)[4:] for line in block.splitlines()]
    lines = [arguments for arguments in lines if "posts.csv" not in arguments]
    assert len(lines) == 4
    for arguments in lines:
        if "--find-faces" in arguments:
            with pytest.raises(DataError, match="NO_FACE: no face was found"):
                predict.main([*arguments, "--model", "models"])
        else:
            predict.main([*arguments, "--model", "models"])
    assert capsys.readouterr().out.splitlines()[1].startswith("portrait.jpg,")
    assert pd.read_csv("predictions.csv")["path"].tolist() == ["holiday/beach.jpg", "more.zip/more/hill.jpg"]
    assert pd.read_csv("faces.csv")["error"].tolist() == ["NO_FACE: no face was found"]
    assert pd.read_parquet("predictions/")["path"].tolist() == ["holiday/beach.jpg"]
