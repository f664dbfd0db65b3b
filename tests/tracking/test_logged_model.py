import ast
import base64
import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import mlflow
import pandas as pd
import pytest
from mlflow.models import Model

from builders import named, objective_for
from conftest import ROOT, jpeg, make_tiny_project
from manyheads.encoders import PassThroughEncoder
from manyheads.heads import LabelStatistics
from manyheads.inputs import INPUTS, ImageInput, NumbersInput, TextInput
from manyheads.modeling import saving
from manyheads.modeling.build import build_network
from manyheads.prediction.answers import AnsweringModel
from manyheads.prediction.frames import answered
from manyheads.stages import evaluate, report, train
from manyheads.tracking import logged_model, runs
from manyheads.training.tracked import record_again
from model_servers import answer_elsewhere, ask, model_server, python_without_project

EXAMPLES = {
    "image": ImageInput(image_size=16, duplicate_correlation=1),
    "words": TextInput(vocabulary=100, length=4),
    "ids": TextInput(tokens="ids", vocabulary=9, length=4),
    "number": NumbersInput(),
    "numbers": NumbersInput(width=3),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_read(name):
    kind = EXAMPLES[name]
    values, _, _ = kind.encode(kind.bytes_of(kind.example))
    assert (values.shape, values.dtype) == (kind.shape, kind.dtype)


def test_every_kind_has_an_example():
    assert set(INPUTS) == {kind.kind for kind in EXAMPLES.values()}


def graph():
    return grimp.build_graph(
        "manyheads", exclude_type_checking_imports=True, include_external_packages=True, cache_dir=None
    )


def needed():
    """Return the modules that the script imports, with all that these need, and the packages of others among them."""
    tree = ast.walk(ast.parse(logged_model.SCRIPT.read_text(encoding="utf-8")))
    imported = [node for node in tree if isinstance(node, ast.ImportFrom) and node.module.startswith("manyheads")]
    imports, found = graph(), set()
    waiting = {
        name
        for node in imported
        for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        if name in imports.modules
    }
    while waiting:
        module = waiting.pop()
        found.add(module)
        new = set(imports.find_modules_directly_imported_by(module)) if module.startswith("manyheads") else set()
        if "." in module:
            new.add(module.rpartition(".")[0])  # importing a module imports its package
        waiting |= new - found
    ours = {name for name in found if name.startswith("manyheads")}
    return ours, found - ours


def test_the_code_that_travels_is_what_an_answer_needs():
    modules, _ = needed()
    package = logged_model.PACKAGE
    chosen = [package / name for name in logged_model.CODE]
    files = {file for path in chosen for file in (path.rglob("*.py") if path.is_dir() else [path])}
    names = {".".join(file.relative_to(package.parent).with_suffix("").parts) for file in files}
    assert {name.removesuffix(".__init__") for name in names} == modules


def test_the_requirements_are_the_packages_that_this_code_imports():
    _, others = needed()
    installed = packages_distributions()
    imported = {name.lower().replace("_", "-") for other in others for name in installed.get(other, [])}
    required = {requirement.partition("==")[0] for requirement in logged_model.requirements()}
    assert required == imported | {"mlflow"}
    assert all(re.fullmatch(r"[\w-]+==\S+", requirement) for requirement in logged_model.requirements())


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, migrated_store, tiny_config):
    """Return a project after train, evaluate and report, and its run and logged model."""
    layout = make_tiny_project(tmp_path_factory.mktemp("project"), migrated_store)
    config = tiny_config("train.epochs=2")
    path, modules = list(sys.path), set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        started = []
        opened = subprocess.Popen.__init__

        def noted(process, command, *arguments, **options):
            started.append(command)
            opened(process, command, *arguments, **options)

        patch.setattr(subprocess.Popen, "__init__", noted)
        train.run(config, layout, layout)
    # MLflow finds requirements in another process, and loads the model into this one, unless it is kept from it.
    assert {command[0] for command in started} <= {"git"}
    assert sys.path == path
    assert not [name for name in set(sys.modules) - modules if "scoring_server" in name]
    evaluate.run(config, layout, layout)
    report.run(config, layout, layout)
    client = mlflow.MlflowClient(f"sqlite:///{layout.root}/mlflow.db")
    (run,) = client.search_runs(["1"])
    (model,) = client.search_logged_models(["1"])
    return layout, config, client, run, model


def folder_of(model):
    return Path(model.artifact_location.removeprefix("file://"))


@pytest.mark.slow
def test_the_logged_model_says_what_it_takes_and_gives(tracked):
    layout, _, _, run, model = tracked
    assert (model.source_run_id, model.status.name) == (run.info.run_id, "READY")
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    described = Model.load(str(folder_of(model)))
    assert (described.run_id, described.model_id) == (run.info.run_id, model.model_id)
    assert [(column.name, column.type.name, column.required) for column in described.signature.inputs] == [
        ("image", "binary", True)
    ]
    answers = described.signature.outputs.input_dict()
    types = {name: column.type.name for name, column in answers.items()}
    assert types.items() >= {"age": "double", "race": "string", "race_red": "double", "error": "string"}.items()
    assert not any(column.required for column in answers.values())
    assert described.metadata["digest"] == saving.read_card(layout.model).digest
    assert described.metadata["heads"]["age"] == {"unit": "marks", "classes": []}
    assert described.metadata["heads"]["gender"] == {"unit": "", "classes": ["rows", "columns"]}
    assert "manyheads" not in (folder_of(model) / "requirements.txt").read_text()
    assert str(layout.root) not in (folder_of(model) / "MLmodel").read_text().partition("flavors:")[2]


@pytest.mark.slow
def test_it_has_the_saved_model_and_after_evaluate_and_report_its_cards(tracked):
    layout, _, _, run, model = tracked
    folder = folder_of(model) / logged_model.FOLDER
    assert saving.read_card(folder) == saving.read_card(layout.model)
    assert (folder / "evaluation.json").read_text() == layout.evaluation.read_text()
    assert (folder / "data_card.md").read_text() == layout.data_card.read_text()
    card = (folder / "model_card.md").read_text()
    assert run.info.run_id in card
    assert model.tags["mlflow.note.content"] == card
    assert {metric.key: metric.value for metric in model.metrics}["test/score"] == run.data.metrics["test/score"]


@pytest.mark.slow
def test_a_training_that_is_recorded_later_has_the_same_model_and_a_second_record_adds_none(tracked, tmp_path):
    layout, config, client, run, model = tracked
    spec = runs.RunSpec("again")
    run_id = record_again(config, layout, layout, spec, {"best/val/score": 1.0})
    later = client.get_logged_model(client.get_run(run_id).outputs.model_outputs[0].model_id)
    assert later.model_id != model.model_id
    differing = {"MLmodel"}
    for file in sorted(path for path in folder_of(later).rglob("*") if path.is_file() and path.name not in differing):
        assert file.read_bytes() == (folder_of(model) / file.relative_to(folder_of(later))).read_bytes()
    assert record_again(config, layout, layout, spec._replace(run_id=run_id), {"best/val/score": 1.0}) == run_id
    assert len(client.get_run(run_id).outputs.model_outputs) == 1


@pytest.fixture(scope="module")
def answering(tracked):
    return AnsweringModel(saving.load(tracked[0].model))


BAD = {
    "none": (None, "VALUE_MALFORMED"),
    "missing": (float("nan"), "VALUE_MALFORMED"),
    "empty": (b"", "DECODE_UNIDENTIFIED"),
    "not an image": (b"<html>", "DECODE_UNIDENTIFIED"),
    "cut off": (jpeg(1)[:300], "DECODE_TRUNCATED"),
    "no base64": ("%", "VALUE_MALFORMED"),
    "number": (5, "VALUE_MALFORMED"),
}


@pytest.mark.slow
def test_what_cannot_be_read_has_a_code_and_leaves_the_others_as_they_are(answering):
    good = pd.DataFrame({"image": [jpeg(1), jpeg(2)]})
    alone = answered(answering, good)
    assert (alone["error"] == "").all()
    bad = pd.DataFrame({"image": [value for value, _ in BAD.values()]}, index=list(BAD))
    mixed = answered(answering, pd.concat([good[:1], bad, good[1:]]))
    pd.testing.assert_frame_equal(mixed.iloc[[0, -1]].set_axis(alone.index), alone)
    assert mixed.index[1:-1].tolist() == list(BAD)
    codes = mixed["error"].str.partition(":")[0]
    assert codes[1:-1].tolist() == [code for _, code in BAD.values()]
    only_bad = answered(answering, bad)
    assert list(only_bad) == list(alone)
    assert only_bad["age"].tolist() == [None] * len(BAD)
    assert list(answered(answering, bad[:0])) == list(alone)


@pytest.mark.slow
def test_more_rows_than_a_batch_are_answered_in_their_order(answering):
    frame = pd.DataFrame({"image": [jpeg(seed) for seed in range(130)]})
    answers = answered(answering, frame)
    backwards = answered(answering, frame[::-1])
    pd.testing.assert_frame_equal(backwards[::-1], answers)
    assert answers["age"].nunique() > 10


OWN_HEAD = """
from typing import Literal

from manyheads.datasets import Table  # which no other answer needs
from manyheads.heads import Regression


class Doubled(Regression):
    kind: Literal["cellar.own:Doubled"] = "cellar.own:Doubled"

    def values(self, outputs):
        return 2 * super().values(outputs)
"""


@pytest.fixture(scope="module")
def own_head(tmp_path_factory):
    """Return a saved model of untrained weights with a head of an extension, and the same as a model of MLflow."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "cellar").mkdir()
    (folder / "cellar/own.py").write_text(OWN_HEAD)
    (folder / "saved").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        from cellar.own import Doubled  # pyright: ignore

        heads = named({"price": Doubled(unit="pounds", minimum=0, maximum=99, bins=(50,), tolerance=5)})
        inputs = {"measures": NumbersInput(width=2), "year": NumbersInput()}
        objective = objective_for(heads, {"price": "mae"}, {"price": LabelStatistics(30, 10)})
        network = build_network(PassThroughEncoder(), objective, inputs, folded=True)
        saving.save(folder / "saved", network, saving.ModelCard(data="table", inputs=inputs, heads=heads))
        logged_model.save(folder / "logged", folder / "saved", network, inputs, heads, Model())
        answering = AnsweringModel(saving.load(folder / "saved", ["cellar"]))
        measures = [[0.1, 2e-7], [3, 4], [5.0], [1.0, "2"], [], None]
        frame = pd.DataFrame({"measures": measures, "year": [1.5, 2, 3, 4, 5, None]})
        yield folder, frame, answered(answering, frame)
    for name in ("cellar", "cellar.own"):
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def served(tracked, own_head, tmp_path_factory):
    """Return a Python without the project, and the addresses of both models' servers in it."""
    folder = tmp_path_factory.mktemp("served")
    python = python_without_project(folder / "environment")
    store = f"sqlite:///{tracked[0].root}/mlflow.db"
    with (
        model_server(python, folder, f"models:/{tracked[-1].model_id}", store) as first,
        model_server(python, folder, str(own_head[0] / "logged")) as second,
    ):
        yield python, first, second


@pytest.mark.slow
def test_a_model_with_heads_of_an_extension_answers_without_the_project(own_head, served, tmp_path):
    (folder, frame, expected), (python, _, address) = own_head, served
    assert expected["error"].str.partition(":")[0].tolist() == [
        "", "", "NUMBER_COUNT", "VALUE_MALFORMED", "NUMBER_COUNT", "VALUE_MALFORMED",
    ]  # fmt: skip
    frame.to_pickle(tmp_path / "frame.pickle")
    answer_elsewhere(python, tmp_path, [(folder / "logged", tmp_path / "frame.pickle", tmp_path / "answers.csv")])
    assert (tmp_path / "answers.csv").read_text() == expected.to_csv(index=False)
    status, predictions = ask(address, json.loads(frame.to_json(orient="records", double_precision=15)))
    assert (status, predictions) == (200, expected.to_dict("records"))
    # MLflow itself refuses what the signature excludes, for all rows of a request.
    assert ask(address, [{"measures": [1, 2], "year": "last"}])[0] == 400
    assert "missing inputs ['year']" in ask(address, [{"measures": [1, 2]}])[1]


@pytest.mark.slow
def test_images_over_http_have_their_answers_or_codes(answering, served):
    files = [jpeg(1), b"", b"<html>", jpeg(1)[:300], jpeg(2)]
    status, predictions = ask(served[1], [{"image": base64.b64encode(data).decode()} for data in files])
    assert status == 200
    expected = answered(answering, pd.DataFrame({"image": files}))
    assert predictions == expected.to_dict("records")
    codes = expected["error"].str.partition(":")[0].tolist()
    assert codes == ["", "DECODE_UNIDENTIFIED", "DECODE_UNIDENTIFIED", "DECODE_TRUNCATED", ""]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_page_says_how(tracked, answering, served, tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs/tracking.md").read_text(encoding="utf-8")
    (post,) = re.findall(r"```sh\n(printf .*?)```", page, re.DOTALL)
    (python,) = re.findall(r"```python\n(from pathlib .*?)```", page, re.DOTALL)
    (tmp_path / "photo.jpg").write_bytes(jpeg(3))
    ask(served[1], [])  # until it answers
    done = subprocess.run(
        ["bash", "-euc", post.replace("http://127.0.0.1:5001", served[1])],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    expected = answered(answering, pd.DataFrame({"image": [jpeg(3)]}))
    assert json.loads(done.stdout)["predictions"] == expected.to_dict("records")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # to which MLflow adds the model's code
    here = python.replace("mlflow.db", str(tracked[0].root / "mlflow.db"))
    exec(here.replace("models:/m-0123456789abcdef0123456789abcdef", tracked[-1].model_uri))
    assert capsys.readouterr().out == expected.to_csv(index=False) + "\n"
