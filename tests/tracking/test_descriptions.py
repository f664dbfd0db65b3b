import json

from manyheads.tracking.descriptions import Described, code, describe, view_by_score

MAIN = {"topic": {"name": "accuracy"}, "stars": {"name": "mae"}}
METRICS = {
    "best/val/score": 1.25, "best/val/topic/accuracy": 0.8, "val_baseline/topic/accuracy": 0.4,
    "best/val/stars/mae": 0.5, "val_baseline/stars/mae": 1.1, "best/epoch": 7, "wall_seconds": 130.0,
}  # fmt: skip
TAGS = {"main_metrics": json.dumps(MAIN), "data": "posts", "git.commit": "0123456789abcdef", "git.dirty": "false"}
RUN = Described("ab12", "3", {"train.epochs": "8", "loss.weights.topic": "1.0"}, METRICS, TAGS, ["params.yaml"])


def test_a_training_has_its_validation_figures_beside_the_baseline():
    said = describe(RUN)
    assert said.startswith(
        "**Validation score 1.250 of at most 2**: topic accuracy **0.800** (baseline 0.400), stars mae **0.500** "
        "(1.100)\n**Open:** "
    )
    assert "\nBest epoch 7 of 8; trained in 2 min" in said


def test_test_figures_come_first_when_there_are_any():
    tested = {"test/score": 1.2, "test/topic/accuracy": 0.79, "test_baseline/topic/accuracy": 0.41}
    said = describe(RUN._replace(metrics=METRICS | tested, artifacts=["report.html", "network.html"]))
    assert said.startswith("**Test score 1.200 of at most 2**: topic accuracy **0.790** (baseline 0.410)\n")
    assert "\nValidation score 1.250; best epoch 7 of 8; trained in 2 min" in said
    assert "[report](#/experiments/3/runs/ab12/artifacts/report.html?" in said
    assert "[model]" not in said
    assert "[model](#/experiments/3/models/m-cd?" in describe(RUN._replace(model="m-cd"))


def test_the_way_back_is_a_command():
    composed = TAGS | {"differs": json.dumps(["loss=a b", "seed=2"])}
    assert "`git checkout 0123456789ab && python -m manyheads params 'loss=a b' seed=2 && dvc repro`" in describe(
        RUN._replace(tags=composed)
    )
    experiment = TAGS | {"dvc.experiment": "bold-hare", "dvc.baseline": "fedcba9876543210"}
    assert "`git checkout fedcba987654 && dvc exp apply bold-hare`" in describe(RUN._replace(tags=experiment))
    trial = TAGS | {"promote": "dvc exp run -S seed=2", "sweep": "s", "mlflow.parentRunId": "cd34", "differs": "[]"}
    said = describe(RUN._replace(tags=trial))
    assert "**Promote it:** `dvc exp run -S seed=2`, with the code of `git checkout 0123456789ab`" in said
    assert "[the sweep that it belongs to](#/experiments/3/runs/cd34?" in said


def test_what_differs_from_the_default_is_named_up_to_six():
    assert "nothing" in describe(RUN._replace(tags=TAGS | {"differs": "[]"}))
    many = [f"a.b{number}={number}" for number in range(15)]
    said = describe(RUN._replace(tags=TAGS | {"differs": json.dumps(many)}))
    assert "`a.b5=5` and 9 more settings" in said
    assert "`a.b6=6`" not in said


def test_edited_files_are_said():
    edited = TAGS | {"git.dirty": "true", "differs": "[]"}
    assert "(files were edited after this commit)" in describe(RUN._replace(tags=edited))


def test_markdown_of_names_is_escaped():
    assert code("a`b") == "`` a`b ``"


def test_a_run_without_a_record_of_its_heads_has_no_view():
    assert view_by_score(RUN._replace(tags={"data": "posts"})) is None
    view = view_by_score(RUN)
    assert (view.key, view.metrics) == ("by-score-posts", ("best/val/topic/accuracy", "best/val/stars/mae"))
    assert view.params == ("loss.weights.topic",)
