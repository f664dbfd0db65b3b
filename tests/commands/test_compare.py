import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import mlflow
import pandas as pd
import pytest

from manyheads.commands import compare
from manyheads.config.loading import read_params
from manyheads.errors import DataError, MachineError
from manyheads.tracking import runs, store
from manyheads.tracking.runs import RunSpec
from stored_models import predictions

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path, migrated_store, monkeypatch):
    """Return a project whose MLflow store has two sweeps and a single training."""
    shutil.copy(migrated_store, tmp_path / "mlflow.db")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "conf").mkdir()
    shutil.copy(ROOT / "conf/config.yaml", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def params(root):
    return read_params(root / "params.yaml")


def experiment(root):
    return params(root).tracking.experiment


def sweep(root, weights, failing=()):
    """Record a sweep over the weight of the age; return its run's id and those of its trials."""
    trials = []
    with runs.run(experiment(root), root, RunSpec("a sweep", {"sweep": "s"})) as parent:
        for weight in (*weights, *failing):
            for seed in (1, 2):
                overrides = ["experiment=hour", f"loss.weights.age={weight}", f"seed={seed}"]
                tags = {"split": "abc", "overrides": json.dumps(overrides), "sweep": "s", "trial": f"{weight}-{seed}"}
                spec = RunSpec(f"age={weight} seed={seed}", tags, parent.run_id)
                try:
                    with runs.run(experiment(root), root, spec) as run:
                        trials.append(run.run_id)
                        run.params({"seed": seed, "loss": {"name": "balanced", "weights": {"age": weight}}})
                        if weight in failing:
                            raise RuntimeError("out of memory\nin two lines")
                        skill = 0.5 + weight / 10 + seed / 1000
                        metrics = {"age/skill": skill, "age/mae": 10 * (1 - skill), "score": skill}
                        run.metrics({f"best/val/{name}": value for name, value in metrics.items()})
                except RuntimeError:
                    pass
    return parent.run_id, trials


def artifacts(root, run_id):
    return {file.path for file in mlflow.MlflowClient(store.tracking_uri(root)).list_artifacts(run_id, "comparison")}


FILES = {"comparison/comparison.html", "comparison/trials.csv"}


def test_the_newest_sweep_is_compared_and_gets_the_files(root, capsys):
    sweep(root, [4])
    parent, trials = sweep(root, [1, 2], failing=[3])
    compare.main([])
    table = pd.read_csv(root / "reports/comparison/trials.csv", keep_default_na=False)
    assert set(table["run_id"]) == set(trials)
    assert table["status"].tolist() == ["FINISHED"] * 4 + ["FAILED"] * 2
    assert table["error"].tolist()[-1] == "out of memory in two lines"
    printed = capsys.readouterr().out
    assert "failed: age=3 seed=1: out of memory in two lines" in printed
    assert "dvc exp run -S experiment=hour -S loss.weights.age=2\n" in printed
    assert artifacts(root, parent) == FILES
    assert mlflow.MlflowClient(store.tracking_uri(root)).get_run(parent).info.status == "FINISHED"


def test_sweeps_and_trainings_can_be_named_by_their_first_characters(root, tmp_path):
    first, of_first = sweep(root, [1])
    second, of_second = sweep(root, [2, 4])
    output = tmp_path / "elsewhere"
    compare.main([first[:10], of_second[0][:10], "--output", str(output)])
    assert set(pd.read_csv(output / "trials.csv")["run_id"]) == {*of_first, of_second[0]}
    assert artifacts(root, first) == FILES
    compare.main([first, second, "--output", str(output)])
    assert set(pd.read_csv(output / "trials.csv")["run_id"]) == {*of_first, *of_second}
    assert artifacts(root, second) == set()


def test_a_filter_is_mlflows_and_never_takes_a_sweep_itself(root):
    _, first = sweep(root, [1, 2])
    _, second = sweep(root, [2])
    compare.main(["--filter", "params.`loss.weights.age` = '2'"])
    table = pd.read_csv(root / "reports/comparison/trials.csv")
    assert set(table["run_id"]) == {*first[2:], *second}
    compare.main(["--filter", "metrics.`best/val/score` > 0"])
    assert len(pd.read_csv(root / "reports/comparison/trials.csv")) == 6


def test_what_cannot_be_compared_is_named_in_one_line(root, monkeypatch):
    with pytest.raises(DataError, match="has no experiment"):
        compare.main([])
    _, trials = sweep(root, [1])
    for arguments, message in (
        (["0123456789"], "has no run '0123456789'"),
        ([trials[0][:4]], "too short"),
        (["--filter", "params.`loss.name` = 'nothing'"], "has no training for which"),
        (["--filter", "what is this"], "cannot parse the filter"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            compare.main(arguments)
        assert "\n" not in str(caught.value)
    (root / "mlflow.db").write_bytes(b"this is no database")
    with pytest.raises(MachineError, match="cannot be read"):
        compare.main([])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/nowhere.db")
    with pytest.raises(DataError, match="no record of runs"):
        compare.main([])
    assert not (root / "nowhere.db").exists()


def test_a_sweep_without_trials_is_no_training(root):
    with runs.run(experiment(root), root, RunSpec("a sweep", {"sweep": "s"})) as parent:
        pass
    with pytest.raises(DataError, match="has no training among"):
        compare.main([parent.run_id])
    with pytest.raises(DataError, match="has no sweep"):
        compare.main([])


def evaluated(root, table):
    with runs.run(experiment(root), root, RunSpec("train", {})) as run:
        file = root / "predictions.csv"
        table.to_csv(file, index=False)
        run.files(file)
        return run.run_id


def test_two_evaluated_runs_are_compared_sample_by_sample(root, capsys, caplog):
    worse, better = (evaluated(root, predictions(params(root), *table)) for table in ((8.0, 0.7), (4.0, 0.9)))
    with caplog.at_level("INFO"):
        compare.main(["--test", worse[:8], better[:8]])
    (address,) = re.findall(r"in MLflow: (\S+)", caplog.text)
    assert unquote(address).startswith(f'http://127.0.0.1:5000/#/compare-runs?runs=["{worse}", "{better}"]')
    said = " ".join(capsys.readouterr().out.split())
    assert f"On 400 test samples, {better[:8]} is better in age mean absolute error" in said
    assert "McNemar" in said
    page = (root / "reports/comparison/paired.html").read_text(encoding="utf-8")
    assert f"Is {better[:8]} better than {worse[:8]}?" in page
    compare.main(["--test", worse[:8], worse[:8]])
    assert "no difference between" in capsys.readouterr().out


def test_what_has_no_predictions_of_the_same_samples_is_refused(root):
    first, other = (evaluated(root, predictions(params(root), 8.0, 0.7, n)) for n in (400, 399))
    with pytest.raises(DataError, match="different splits: 1 test samples only in the first"):
        compare.main(["--test", first, other])
    _, trials = sweep(root, [1])
    with pytest.raises(DataError, match="has no predictions of the test subset"):
        compare.main(["--test", first, trials[0]])
    with pytest.raises(DataError, match=r"there is no model 'nowhere' .*no run.*no git revision"):
        compare.main(["--test", first, "nowhere"])
