import os
import signal
import subprocess
import threading
from pathlib import Path

import mlflow
import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from conftest import TINY, make_sweep_project
from manyheads.__main__ import main
from manyheads.config import composition
from manyheads.data.tables import write_table
from manyheads.errors import ConfigError
from manyheads.paths import Paths
from manyheads.reporting import comparison
from manyheads.sweeps import search, space
from manyheads.sweeps.pruning import is_hopeless
from manyheads.sweeps.trials import TrialStore

ROOT = Path(__file__).parents[2]
HEADS = ("age", "race", "gender")
LOG = FloatDistribution(0.1, 10, log=True)


@pytest.fixture
def project(tmp_path, migrated_store, monkeypatch):
    """Return a tiny project that a search can run in."""
    monkeypatch.chdir(tmp_path)
    return make_sweep_project(tmp_path, migrated_store)


def command(*arguments: str) -> int:
    """Run the command in this process and return its exit code."""
    with pytest.raises(SystemExit) as stop:
        main(["search", *TINY, *arguments])
    return int(stop.value.code or 0)


def runs(layout: Paths) -> tuple[list, list]:
    """Return the parents and the children of the store."""
    found = mlflow.MlflowClient(f"sqlite:///{layout.root}/mlflow.db").search_runs(["1"])
    children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    return [run for run in found if run not in children], children


def study(layout: Paths) -> optuna.Study:
    (folder,) = layout.searches.iterdir()
    storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
    return optuna.load_study(study_name=folder.name, storage=storage)


def trials(layout: Paths) -> list[optuna.trial.FrozenTrial]:
    return study(layout).trials


def states(layout: Paths) -> list[str]:
    return [trial.state.name for trial in trials(layout)]


def pretend(store: TrialStore, trial_id: str, skill: float) -> None:
    """Write the files of a finished trial, with one skill score for all heads in each of three epochs."""
    metrics = {f"best/val/{head}/skill": skill for head in HEADS} | {"best/val/score": 3 * skill}
    state = store.read(trial_id)
    store.write(trial_id, state.model_copy(update={"status": "FINISHED", "metrics": metrics, "recorded": True}))
    history = pd.DataFrame({"epoch": [1, 2, 3]} | {f"val/{head}/skill": [skill] * 3 for head in HEADS})
    write_table(store.paths(trial_id).history, history)


@pytest.fixture
def quick_trainings(monkeypatch):
    """Replace the training by a function of the age's weight, and return the names of the trained trials."""
    trained = []

    def train_trial(store, trial_id, config, callbacks):
        trained.append(store.read(trial_id).name)
        pretend(store, trial_id, 1 / (1 + abs(config.loss.weights["age"] - 2)))
        return store.read(trial_id)

    monkeypatch.setattr(search, "train_trial", train_trial)
    return trained


@pytest.mark.parametrize(
    ("overrides", "searched"),
    [
        ([], {f"loss.weights.{head}": LOG for head in HEADS}),
        (["loss.weights.gender=1"], {f"loss.weights.{head}": LOG for head in ("age", "race")}),
        (["loss=learned,balanced"], {"loss": CategoricalDistribution(["balanced", "learned"])}),
        (["model.stem=[8,16],[4,8]"], {"model.stem": CategoricalDistribution(["[4,8]", "[8,16]"])}),
        (["loss.weights.age=tag(log,interval(0.1,10))"], {"loss.weights.age": LOG}),
        (["train.batch_size=int(interval(16,64))"], {"train.batch_size": IntDistribution(16, 64)}),
        (["train.epochs=range(4,12,2)"], {"train.epochs": IntDistribution(4, 10, step=2)}),
        (["model.dropout=range(0.1,0.35,0.1)"], {"model.dropout": FloatDistribution(0.1, 0.3, step=0.1)}),
        (["++seed=1,2"], {"++seed": CategoricalDistribution(["1", "2"])}),
    ],
)
def test_hydras_syntax_becomes_a_space(project, overrides, searched):
    assert space.parse(project.root, [*TINY, *overrides]).searched == searched


def test_what_has_one_value_is_the_same_for_all_trials(project):
    found = space.parse(project.root, [*TINY, "loss.weights.age=interval(1,2)", "loss=learned"])
    assert found.fixed == (*TINY, "loss=learned")
    assert found.overrides({"loss.weights.age": 1.23456})[-2:] == ["loss=learned", "loss.weights.age=1.23"]


def test_numbers_are_tried_as_they_are_written():
    assert [space.written(value) for value in (0.123456, 0.1, 1000.4, 0.00012349, 48, "[8,16]")] == [
        "0.123", "0.1", "1000", "0.000123", "48", "[8,16]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["loss.weights.agee=1,2"], 2, "unknown setting 'loss.weights.agee' - did you mean 'loss.weights.age'?"),
        (["+loss.weights.nose=1,2"], 2, "the heads are age, gender and race"),
        (["loss=balanced,lerned"], 2, "loss has no option 'lerned' - did you mean 'learned'?"),
        (["train.epochs=interval(1,3)"], 2, "'train.epochs': input should be a valid integer"),
        (["loss.weights.age=tag(log,interval(0,1))"], 2, "loss.weights.age=tag(log,interval(0,1)): `low > 0`"),
        (["loss.weights.age=tag(often,interval(1,2))"], 2, "the tag 'often' is not supported here"),
        (["train.epochs=range(4,4)"], 2, "the range is empty"),
        (["loss=glob(*)"], 2, "list the options"),
        (["hydra/launcher=joblib"], 2, "in a second terminal the same command shares the work"),
        (["loss.weights={age:1,race:1,gender:1}", "seed=1", "--trials", "0"], 2, "at least one trial"),
        ([f"loss.weights.{head}=1" for head in HEADS], 2, "every setting has one value"),
        (
            ["inputs.image.image_size=16,32"],
            4,
            "made with inputs.image.image_size=16, but this configuration has inputs.image.image_size=32",
        ),
    ],
)
def test_bad_settings_are_refused_before_the_first_trial(project, capsys, arguments, code, message):
    assert command(*arguments) == code
    assert message in capsys.readouterr().err
    assert runs(project) == ([], [])
    assert not project.searches.exists()


def test_a_split_that_is_not_the_locked_one_is_refused(project, capsys):
    project.splits.write_text(project.splits.read_text().replace("train", "validation", 1))
    assert command() == 4
    assert "data/splits.csv differs from dvc.lock: run `dvc repro split`" in capsys.readouterr().err


@pytest.mark.slow
def test_choices_do_not_depend_on_interruptions(project, quick_trainings, monkeypatch):
    assert command("--trials", "12") == 0
    whole = list(quick_trainings)
    assert len(set(whole)) == 12
    quick_trainings.clear()
    next(project.searches.iterdir()).rename(project.root / "kept")
    healthy = search.train_trial

    def interrupted(store, trial_id, config, callbacks):
        monkeypatch.setattr(search, "train_trial", healthy)
        raise KeyboardInterrupt

    assert command("--trials", "11") == 0
    monkeypatch.setattr(search, "train_trial", interrupted)
    assert command("--trials", "12") == 130
    assert states(project)[11:] == ["FAIL", "WAITING"]
    assert command("--trials", "12") == 0
    assert quick_trainings == whole


@pytest.mark.slow
def test_another_seed_or_space_is_another_search(project, quick_trainings):
    first = [*TINY, "loss.weights.age=interval(1,2)"]
    search.run(project.root, [*first, "loss.weights.race=interval(1,2)"], 1, "")
    search.run(project.root, [*TINY, "loss.weights.race=interval(1,2)", first[-1]], 1, "")
    assert len(list(project.searches.iterdir())) == 1
    for other in ([*first, "seed=2"], [*TINY, "loss.weights.age=interval(1,3)"]):
        search.run(project.root, other, 1, "")
    assert len(list(project.searches.iterdir())) == 3
    assert len(set(quick_trainings)) == 3


@pytest.mark.slow
def test_two_that_share_a_search_train_each_trial_once_and_the_last_ends_it(project, quick_trainings, monkeypatch):
    training, may_end = threading.Event(), threading.Event()
    quick = search.train_trial

    def train_trial(store, trial_id, config, callbacks):
        if threading.current_thread() is slow:
            training.set()
            may_end.wait(60)
        return quick(store, trial_id, config, callbacks)

    monkeypatch.setattr(search, "train_trial", train_trial)
    slow = threading.Thread(target=search.run, args=(project.root, TINY, 5, "slow"))
    slow.start()
    assert training.wait(60)
    search.run(project.root, TINY, 5, "fast")
    assert states(project) == ["RUNNING", *["COMPLETE"] * 4]
    (parent,), _ = runs(project)
    assert parent.info.status == "RUNNING"
    may_end.set()
    slow.join()
    assert states(project) == ["COMPLETE"] * 5
    assert len(set(quick_trainings)) == 5
    (parent,), _ = runs(project)
    assert parent.info.status == "FINISHED"


@pytest.mark.slow
def test_optuna_maximizes_the_skill_of_every_head(project, quick_trainings):
    assert command("--trials", "2", "loss.weights.age=interval(2,10)") == 0
    assert [direction.name for direction in study(project).directions] == ["MAXIMIZE"] * 3
    weights = [trial.params["loss.weights.age"] for trial in trials(project)]
    skills = [trial.values for trial in trials(project)]  # noqa: PD011 - no pandas
    assert skills == [pytest.approx([1 / (weight - 1)] * 3, abs=0.01) for weight in weights]


def row(age, race):
    return {"val/age/skill": age, "val/race/skill": race}


@pytest.mark.parametrize(
    ("others", "stopped"),
    [
        ([row(0.6, 0.6)] * 4, True),
        ([row(0.6, 0.6)] * 3, False),  # too few to compare with
        ([row(0.6, 0.6)] * 2 + [row(0.4, 0.4)] * 2, True),
        ([row(0.6, 0.6)] * 2 + [row(0.4, 0.4)] * 3, False),
        ([row(0.9, 0.4)] * 4, False),  # better for one head is not better
        ([row(0.9, 0.5)] * 4, False),
    ],
)
def test_a_trial_is_hopeless_if_half_of_the_others_are_better_for_every_head(others, stopped):
    assert is_hopeless(row(0.5, 0.5), others, ["age", "race"]) is stopped


@pytest.mark.slow
def test_a_hopeless_trial_is_stopped_and_says_why(project, monkeypatch):
    def perfect(store, trial_id, config, callbacks):
        pretend(store, trial_id, 1.0)
        return store.read(trial_id)

    with monkeypatch.context() as patch:
        patch.setattr(search, "train_trial", perfect)
        assert command("--trials", "4") == 0
    assert command("--trials", "5") == 0
    assert states(project) == [*["COMPLETE"] * 4, "PRUNED"]
    (parent,), (child,) = runs(project)
    assert parent.info.status == "FINISHED"
    assert child.info.status == "KILLED"
    reason = "after epoch 1 of 3 at least half of the 4 finished trials were better for every head"
    assert child.data.tags["error"] == reason
    (folder,) = project.searches.iterdir()
    table = pd.read_csv(folder / comparison.TABLE)
    assert list(table.loc[table["status"] == "KILLED", "error"]) == [reason]
    assert command("--trials", "5") == 0  # it is not tried again
    assert len(trials(project)) == 5


@pytest.mark.slow
def test_a_failed_trial_stops_no_other_and_is_tried_again(project, capsys):
    arguments = ["--trials", "2", "train.epochs=1", "train.learning_rate=0.01,1e38"]
    assert command(*arguments) == 1
    captured = capsys.readouterr()
    assert "1 of 2 trials failed: learning_rate=1e+38 (training diverged in epoch 1" in captured.err
    assert "dvc exp run" in captured.out
    assert sorted(states(project)) == ["COMPLETE", "FAIL"]
    (parent,), children = runs(project)
    assert parent.info.status == "FAILED"
    assert {child.data.params["train.learning_rate"]: child.info.status for child in children} == {
        "0.01": "FINISHED", "1e+38": "FAILED",
    }  # fmt: skip
    assert {child.data.tags["search"] for child in children} == {parent.data.tags["search"]}
    assert command(*arguments) == 1
    assert states(project).count("FAIL") == 2
    assert len(runs(project)[1]) == 2


@pytest.mark.slow
def test_settings_that_do_not_fit_together_are_a_failed_trial(project, quick_trainings, capsys):
    impossible = ["loss.weighting=fixed,learned", "loss.functions.age=gaussian,mae"]
    assert command("--trials", "6", *impossible) == 1
    assert "its weight cannot be learned" in capsys.readouterr().err
    assert set(states(project)) == {"COMPLETE", "FAIL"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_and_interrupted_it_continues_after_the_last_epoch(project, warm_python):
    command_line = [warm_python, "-m", "manyheads", "search", "--trials", "2", *TINY, "train.epochs=6"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}

    def stop_at(line: str, number: int) -> tuple[int, str]:
        seen = []
        with subprocess.Popen(
            command_line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            for each in process.stderr:
                seen.append(each)
                if line and line in each:
                    process.send_signal(number)
                    line = ""
        return process.returncode, "".join(seen)

    code, _ = stop_at("epoch 2/6", signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert states(project) == ["RUNNING"]
    code, err = stop_at("epoch 4/6", signal.SIGINT)
    assert code == 130, err
    assert "continuing after epoch" in err
    assert states(project) == ["FAIL", "FAIL", "WAITING"]
    (parent,), (child,) = runs(project)
    assert (parent.info.status, child.info.status) == ("KILLED", "KILLED")
    code, err = stop_at("", 0)
    assert code == 0, err
    assert states(project) == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    assert trials(project)[0].params == trials(project)[2].params
    (parent,), children = runs(project)
    assert parent.info.status == "FINISHED"
    assert [child.info.status for child in children] == ["FINISHED"] * 2
    client = mlflow.MlflowClient(f"sqlite:///{project.root}/mlflow.db")
    for each in children:
        steps = [metric.step for metric in client.get_metric_history(each.info.run_id, "val/score")]
        assert sorted(steps) == list(range(1, 7))


def test_weights_of_heads_that_the_loss_does_not_name_are_searched_as_hydra_takes_them(wine_project, monkeypatch):
    monkeypatch.setattr(space, "require_settings_as_locked", lambda *arguments: None)
    found = space.parse(wine_project, ["data=wine", "loss.functions.quality=mse"])
    assert found.fixed == ("data=wine", "++loss.functions.quality=mse")
    assert list(found.searched) == ["++loss.weights.colour", "++loss.weights.quality"]
    values = dict.fromkeys(found.searched, 2.0)
    assert found.name(values) == "colour=2 quality=2"
    weights = composition.compose(wine_project, found.overrides(values)).loss.weights
    assert weights == {"quality": 2, "colour": 2}
    with pytest.raises(ConfigError, match=r"did you mean 'loss.weights.quality'"):
        space.parse(wine_project, ["data=wine", "loss.weights.qualty=interval(1,2)"])
