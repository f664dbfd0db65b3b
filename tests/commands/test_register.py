"""The registry: the challenger's story in MLflow and in tags of git, and references to models in both.

The story on a server is that of real trainings; the others are of models made by hand, see ``stored_models``.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import yaml

from conftest import ROOT, TINY, TWO_BLOCKS, compose, jpeg, make_tiny_project
from manyheads.__main__ import main
from manyheads.commands import compare, predict, register, saved_model
from manyheads.errors import DataError, IntegrityError, MachineError
from manyheads.modeling import saving
from manyheads.runtime.files import write_text
from manyheads.stages import evaluate, report, train
from manyheads.tracking import store
from mlflow_servers import mlflow_server
from stored_models import Repository, predictions, record_run, save_model

pytestmark = pytest.mark.slow

CONFIG = compose("inputs.image.image_size=16")
NAME = "manyheads-sample"
# Standard deviation of the error of the age, and share of right classes of race and gender.
TABLES = {
    "moderate": (6, 0.8),
    "worse": (12, 0.5),
    "better in age": (3, 0.8),
    "better": (3, 0.95),
    "just as good": (3, 0.95),
}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Return saved models that differ in their weights, by what is said of their predictions."""
    folder = tmp_path_factory.mktemp("networks")
    for seed, name in enumerate(TABLES):
        save_model(folder / name, CONFIG, seed)
    return {name: folder / name for name in TABLES}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, migrated_store, networks):
    """Return a project whose models are recorded in MLflow, two of them in git, too, and the ids of their runs.

    The branch ``main`` and the folder ``models/`` have the moderate model. Each test registers under its own name.
    """
    root = make_project(tmp_path_factory.mktemp("project"), migrated_store)
    repository = Repository(root, CONFIG)
    for name in ("moderate", "better in age"):
        commit = repository.commit(networks[name], predictions(CONFIG, *TABLES[name]))
        repository.run(
            "git", "update-ref", f"refs/exps/ab/cdef/{'bold-hare' if name == 'moderate' else 'heavier'}", commit
        )
    repository.run("git", "reset", "-q", "--hard", "HEAD~1")
    shutil.copytree(networks["moderate"], root / "models")
    experiments = {"moderate": "calm-owl", "worse": "blunt", "better in age": "heavier"}
    ids = {}
    for name, table in TABLES.items():
        tags = {"dvc.experiment": experiments[name]} if name in experiments else {}
        ids[name] = record_run(root, CONFIG, networks[name], predictions(CONFIG, *table), **tags)
    with zipfile.ZipFile(root / "new.zip", "w") as archive:
        for seed in range(3):
            archive.writestr(f"{seed}.jpg", jpeg(seed))
    return root, ids


@pytest.fixture
def project(recorded, monkeypatch):
    """Return the project, which is the working directory, and the ids of its runs."""
    monkeypatch.chdir(recorded[0])
    return recorded


def make_project(folder: Path, migrated_store: Path) -> Path:
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # of the test before: a module's fixtures come first
    shutil.copy(migrated_store, folder / "mlflow.db")
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / "conf").symlink_to(ROOT / "conf")
    (folder / "params.yaml").write_text(yaml.safe_dump(CONFIG.model_dump(mode="json")))
    return folder


def manyheads(*arguments: str) -> int:
    """Return the exit status of a command."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


class Registered:
    """What MLflow's registry has."""

    def __init__(self, root: Path, name: str = NAME) -> None:
        self.client = mlflow.MlflowClient(store.tracking_uri(root))
        self.name = name

    def aliases(self) -> dict[str, str]:
        return {alias: str(number) for alias, number in self.client.get_registered_model(self.name).aliases.items()}

    def version(self, number: int) -> mlflow.entities.model_registry.ModelVersion:
        return self.client.get_model_version(self.name, str(number))

    def count(self) -> int:
        return len(self.client.search_model_versions(f"name = '{self.name}'"))


def test_a_challenger_becomes_champion_only_if_it_is_better(project, capsys):
    root, ids = project

    def register(*arguments: str) -> int:
        return manyheads("register", "--name", "faces", *arguments)

    assert register(ids["moderate"]) == 0
    assert "there was no champion" in capsys.readouterr().err
    registered = Registered(root, "faces")
    first = registered.version(1)
    assert first.source == f"models:/{mlflow.get_run(ids['moderate']).outputs.model_outputs[0].model_id}"
    assert first.run_id == first.tags["run"] == ids["moderate"]
    assert first.description == "# Card\n\n- age: a number\n"
    assert first.tags["model"] == mlflow.get_run(ids["moderate"]).data.tags["model"]
    assert first.tags["split"] == "0123abcd"
    model = registered.client.get_logged_model(first.source.removeprefix("models:/"))
    assert '"version": "1"' in model.tags["mlflow.modelVersions"]

    assert register(ids["worse"][:8]) == 6
    said = capsys.readouterr()
    assert re.search(r"error: models:/\S+/2 is the challenger of models:/\S+/1: worse in age .*race .*gender", said.err)
    assert len(said.err.splitlines()) == 2
    assert re.search(r"age +mae .* worse\n", said.out)
    assert registered.aliases() == {"champion": "1", "challenger": "2"}
    assert registered.version(2).tags["gate"] == "refused"
    assert registered.version(2).tags["gate.race"].startswith("worse: accuracy ")

    assert register(ids["better in age"], "--require", "gender") == 6
    assert "not better in gender, which is required, though better in age" in capsys.readouterr().err
    assert registered.aliases() == {"champion": "1", "challenger": "3"}
    assert register(ids["better in age"]) == 0
    said = capsys.readouterr().err
    assert "is registered already: models:/faces/3" in said
    assert registered.aliases() == {"champion": "3"}
    assert registered.version(3).tags["champion.before"] == "1"
    assert registered.count() == 3
    assert register(ids["better in age"]) == 0
    assert "is the champion already" in capsys.readouterr().err

    assert register(ids["worse"], "--force") == 0
    assert "is the champion: forced, worse in" in capsys.readouterr().err
    assert registered.aliases() == {"champion": "2"}
    assert registered.version(2).tags["gate"] == "forced"
    assert registered.version(2).tags["gate.reason"].startswith("worse in age")
    for number in ("3", "1"):
        assert register("--rollback") == 0
        assert f"models:/faces/{number} is the champion again" in capsys.readouterr().err
        assert registered.aliases() == {"champion": number}
    assert register("--rollback") == 3
    assert "models:/faces/1 cannot be rolled back: it is the first champion" in capsys.readouterr().err
    assert register(ids["better"], "--require", "gender") == 0
    assert registered.aliases() == {"champion": "4"}


def test_what_cannot_be_registered_is_refused_in_one_line(project, networks, capsys, monkeypatch, tmp_path):
    root, ids = project
    unevaluated = record_run(root, CONFIG, networks["moderate"], None, promote="dvc exp run -S seed=2", trial="1")
    smaller = record_run(root, CONFIG, networks["better"], predictions(CONFIG, 3, 0.95, n=300), trial="2")
    for arguments, status, message in (
        ([unevaluated], 3, "was not evaluated on the test subset: promote it with `dvc exp run -S seed=2`"),
        (["nowhere"], 3, "'nowhere' is no run, no DVC experiment and no git revision with a run"),
        ([ids["worse"], "--require", "gendr"], 2, "did you mean 'gender'? (heads: age, race, gender)"),
        ([ids["worse"], "--name", "a/b"], 2, "cannot be called 'a/b'"),
        (["--rollback"], 3, "there is no champion to roll back"),
        (["--git", ids["worse"]], 3, "git has no revision and no DVC experiment"),
    ):
        assert manyheads("register", "--name", "refused", *arguments) == status
        said = capsys.readouterr().err
        assert message in said
        assert len(said.splitlines()) == 1
    assert manyheads("register", "--name", "refused", ids["worse"]) == 0
    assert manyheads("register", "--name", "refused", smaller) == 6
    assert "not comparable: the two runs were evaluated on different splits: 100 test" in capsys.readouterr().err
    assert Registered(root, "refused").version(2).tags["gate.age"] == "not compared"
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        assert manyheads("register", ids["worse"]) == 5
        assert "--git registers in tags of git, without a server" in capsys.readouterr().err


def test_two_processes_at_once_are_judged_one_after_the_other(project):
    root, ids = project
    assert manyheads("register", "--name", "two", ids["moderate"]) == 0
    command = [sys.executable, "-m", "manyheads", "register", "--name", "two"]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    started = [
        subprocess.Popen([*command, ids[name]], cwd=root, env=environment, stderr=subprocess.PIPE, text=True)
        for name in ("better", "just as good")
    ]
    said = [process.communicate()[1] for process in started]
    assert sorted(process.returncode for process in started) == [0, 6], said
    registered = Registered(root, "two")
    champion, challenger = (registered.aliases()[alias] for alias in ("champion", "challenger"))
    assert {champion, challenger} == {"2", "3"}
    assert registered.version(champion).tags["gate.against"] == "1"
    assert registered.version(challenger).tags["gate.against"] == champion
    assert registered.version(challenger).tags["gate.reason"] == "not better in any head"


@pytest.mark.parametrize("moment", ["judge", "_now"])
def test_a_champion_that_another_machine_made_in_between_is_judged_against(project, tmp_path, monkeypatch, moment):
    """The other machine moves the alias while this one judges, or just before this one moves it."""
    root, ids = project
    name = f"machines{moment.replace('_', '-')}"
    assert manyheads("register", "--name", name, ids["moderate"]) == 0
    command = [sys.executable, "-m", "manyheads", "register", "--name", name, ids["better"]]
    # Its lock is another file.
    environment = {**os.environ, "DVC_ROOT": str(tmp_path), "MLFLOW_TRACKING_URI": store.tracking_uri(root)}
    real, calls = getattr(register, moment), []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            subprocess.run(command, cwd=root, env=environment, capture_output=True, check=True)
        return real(*arguments)

    monkeypatch.setattr(register, moment, interrupted)
    assert manyheads("register", "--name", name, ids["just as good"]) == 6
    registered = Registered(root, name)
    ours, theirs = "2", "3"
    assert registered.aliases() == {"champion": theirs, "challenger": ours}
    assert registered.version(ours).tags["gate.against"] == theirs
    assert registered.version(theirs).tags["champion.before"] == "1"


def test_the_story_of_real_trainings_on_a_server(tmp_path, migrated_store, monkeypatch, capsys):
    layout = make_tiny_project(tmp_path, migrated_store)
    monkeypatch.chdir(tmp_path)
    # (settings, exit status of register, aliases after it)
    story = (
        (["train.epochs=1"], 0, {"champion": "1"}),
        (["train.epochs=1", "train.learning_rate=1e-6"], 6, {"champion": "1", "challenger": "2"}),
        (["train.epochs=8"], 0, {"champion": "3", "challenger": "2"}),
    )
    with mlflow_server(tmp_path, tmp_path / "mlflow.db") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        registered = Registered(tmp_path)
        for settings, status, aliases in story:
            config = compose(*TINY, *TWO_BLOCKS, *settings)
            write_text(tmp_path / "params.yaml", yaml.safe_dump(config.model_dump(mode="json")))
            train.run(config, layout, layout)
            assert manyheads("register") == 3
            assert "was not evaluated on the test subset" in capsys.readouterr().err
            for stage in (evaluate, report):
                stage.run(config, layout, layout)
            assert manyheads("register") == status, capsys.readouterr()
            assert registered.aliases() == aliases
        assert (
            f"in MLflow: {address}/#/models/{NAME}/versions/3?workflowType=machine_learning\n"
            in capsys.readouterr().err
        )
        champion = registered.version(3)
        assert champion.description.startswith("# Model card: sample")
        assert champion.tags["data_digest"] == "not in dvc.lock"
        place = saved_model.find(f"models:/{NAME}@champion")
        assert place.folder.parent == tmp_path / ".cache/models"
        assert place.card() == saving.read_card(layout.model)
        assert (place.reports / "model_card.md").exists()
        assert saved_model.find("models").card() == place.card()
        assert manyheads("register", "--rollback") == 0
        assert registered.aliases() == {"champion": "1", "challenger": "2"}
        assert saved_model.find(f"models:/{NAME}@champion").card() != place.card()
        compare.main(["--test", f"models:/{NAME}/1", f"models:/{NAME}/3"])
        assert f"models:/{NAME}/3 is better in" in " ".join(capsys.readouterr().out.split())


@pytest.fixture
def repository(tmp_path, migrated_store, monkeypatch):
    """Return a git repository without commits; it is the working directory."""
    monkeypatch.chdir(tmp_path)
    return Repository(make_project(tmp_path, migrated_store), CONFIG)


def test_the_story_in_tags_of_git(repository, networks, capsys):
    root = repository.root
    commits = [
        repository.commit(networks[name], predictions(CONFIG, *TABLES[name]))
        for name in ("moderate", "worse", "better")
    ]
    assert manyheads("register", "--git", commits[0]) == 0
    card = repository.run("git", "for-each-ref", "--format=%(contents)", "refs/tags/model@v0.0.1")
    assert card == "# Card\n\n- age: a number"
    assert manyheads("register", "--git", "HEAD~1", "--require", "age") == 6
    said = capsys.readouterr().err
    assert "model@v0.0.2 is the challenger of model@v0.0.1: worse in age" in said
    assert manyheads("register", "--git") == 0
    assert "model@v0.0.3 is the champion: better in age" in capsys.readouterr().err
    record = repository.run("git", "for-each-ref", "--format=%(contents)", "refs/tags/model#champion#3")
    assert record.startswith("v0.0.3 is champion\n\ngate: promoted\ngate.against: v0.0.1\n")
    assert "\nchampion.before: v0.0.1\n" in record
    champion = saved_model.find("model@champion")
    assert saving.read_card(networks["better"]) == champion.card()
    assert champion.reports == champion.folder

    assert manyheads("register", "--git", commits[1], "--force") == 0
    assert "is registered already: model@v0.0.2" in capsys.readouterr().err
    assert saved_model.find("model@champion").card() == saving.read_card(networks["worse"])
    assert "challenger" not in repository.run("gto", "show", "model")
    for number in ("v0.0.3", "v0.0.1"):
        assert manyheads("register", "--git", "--rollback") == 0
        assert f"model@{number} is the champion again" in capsys.readouterr().err
    assert manyheads("register", "--git", "--rollback") == 3
    assert re.search(r"│ model +│ v0.0.3 +│ v0.0.1 +│", repository.run("gto", "show"))
    repository.run("dvc", "artifacts", "get", ".", "model", "--stage", "champion", "--out", "got")
    assert saving.read_card(root / "got") == saving.read_card(networks["moderate"])


def test_a_revision_is_registered_only_with_an_evaluation_of_its_model(repository, networks, capsys):
    repository.commit(networks["moderate"], None)
    assert manyheads("register", "--git") == 3
    assert "was not evaluated on the test subset: run `dvc repro`, then `git commit`" in capsys.readouterr().err
    repository.commit(networks["worse"], predictions(CONFIG, *TABLES["worse"]))
    (repository.root / "dvc.lock").write_text("{}")
    assert manyheads("register", "--git") == 3
    assert "dvc.lock has changes that are not committed" in capsys.readouterr().err
    assert manyheads("register", "--git", "nowhere") == 3
    assert "git has no revision and no DVC experiment 'nowhere'" in capsys.readouterr().err
    assert manyheads("register", "--git", "HEAD") == 0


@pytest.fixture(scope="module")
def known_everywhere(recorded):
    """Return the project after its moderate model was registered in MLflow and in git, and the id of its run."""
    root, ids = recorded
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert manyheads("register", "--name", "known", "main") == 0
        assert manyheads("register", "--git", "--name", "known", "main") == 0
    return root, ids["moderate"]


def test_every_reference_leads_to_the_same_model(known_everywhere, tmp_path, monkeypatch):
    root, run_id = known_everywhere
    monkeypatch.chdir(root)
    references = ["models:/known@champion", "models:/known/1", "known@champion", "known@v0.0.1", run_id, run_id[:6]]
    references += ["calm-owl", "bold-hare", "main", "HEAD", "models", str(root / "models")]
    folders = {}
    for reference in references:
        folders.setdefault(saved_model.find(reference).folder.resolve(), reference)
    assert len(folders) == 3  # models/, what came from MLflow, and what came from DVC
    tables = []
    for number, reference in enumerate(["", *folders.values()]):
        output = tmp_path / f"{number}.csv"
        predict.main(["new.zip", "--output", str(output), *(["--model", reference] if reference else [])])
        tables.append(output.read_bytes())
    assert len(set(tables)) == 1
    assert len(pd.read_csv(tmp_path / "0.csv")) == 3
    for folder in folders.keys() - {root / "models"}:
        assert folder.parent == root / ".cache/models"
        assert {"evaluation.json", "model_card.md", "model.keras"} <= {file.name for file in folder.iterdir()}
    compare.main(["--test", run_id[:8], "known@champion"])


def test_a_model_is_downloaded_once(known_everywhere, monkeypatch):
    root, _ = known_everywhere
    monkeypatch.chdir(root)
    first = saved_model.find("models:/known@champion").folder
    (first / "directions.npy").write_bytes(b"changed")
    assert saved_model.find("models:/known/1").folder == first
    with pytest.raises(IntegrityError, match="not of one model"):
        saved_model.find("models:/known/1").load()
    shutil.rmtree(first)
    assert saved_model.find("models:/known/1").card() == saving.read_card(root / "models")


def test_an_unknown_reference_is_one_line_that_says_what_was_tried(known_everywhere, monkeypatch, capsys):
    root, _ = known_everywhere
    monkeypatch.chdir(root)
    for reference, message in (
        ("models:/knwon@champion", "registered as 'knwon' - did you mean 'known'?"),
        ("models:/known@chanpion", "no such version - did you mean 'models:/known@champion'? (known: models:/"),
        ("models:/known", "is not models:/NAME@ALIAS and not models:/NAME/VERSION"),
        ("knwon@champion", "no model is registered as 'knwon' - did you mean 'known'?"),
        ("known@v1.0.0", "no such version - did you mean 'known@v0.0.1'? (known: known@champion, known@v0.0.1)"),
        ("known", "(no folder; no run and no DVC experiment of 'manyheads' in MLflow; no git revision and no DVC "),
        ("known", "experiment in git) - did you mean 'known@champion'?"),
    ):
        assert manyheads("predict", "new.zip", "--model", reference) == 3
        said = capsys.readouterr().err
        assert message in said
        assert len(said.splitlines()) == 1


def test_outside_of_a_project_mlflow_and_folders_are_known(known_everywhere, tmp_path, monkeypatch):
    root, run_id = known_everywhere
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    with pytest.raises(DataError, match="no record of runs"):
        saved_model.find("models:/known@champion")
    with pytest.raises(DataError, match="in no manyheads project: name a folder or models:/NAME@ALIAS"):
        saved_model.find(run_id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    place = saved_model.find("models:/known@champion")
    assert place.folder.is_relative_to(tmp_path / "home")
    assert place.extensions == ()
    assert place.card() == saving.read_card(root / "models")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(MachineError, match="start its server"):
        saved_model.find("models:/known@champion")
    assert saved_model.find(str(root / "models")).card() == place.card()


def test_the_reports_beside_a_model_are_used_only_if_they_are_of_it(tmp_path, networks):
    shutil.copytree(networks["moderate"], tmp_path / "models")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/model_card.md").write_text("# Card")
    for evaluation, belongs in (
        ("{}", False),
        ('{"model": "0123"}', False),
        (f'{{"model": "{saving.read_card(networks["moderate"]).digest}"}}', True),
    ):
        (tmp_path / "reports/evaluation.json").write_text(evaluation)
        expected = tmp_path / "reports" if belongs else None
        assert saved_model.find(str(tmp_path / "models")).reports == expected


PAGE = (ROOT / "docs/registry.md").read_text(encoding="utf-8")
IN_MLFLOW, IN_GIT, IN_CI = re.findall(r"^```(?:sh|bash)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("script", [IN_MLFLOW, IN_GIT], ids=["mlflow", "git"])
def test_the_commands_of_the_page_end_as_it_says(project, script):
    """The trainings of the page have been recorded as its experiments; ``gto`` and ``dvc artifacts`` run, too."""
    for line in script.splitlines():
        command, _, comment = line.partition("#")
        words = shlex.split(command)
        expected = re.match(r" status (\d)", comment)
        if words[:3] == ["python", "-m", "manyheads"]:
            assert manyheads(*words[3:]) == int(expected[1] if expected else 0), line
        elif words[:2] != ["dvc", "exp"]:
            subprocess.run(words, check=True, capture_output=True)


def test_the_script_for_ci_tells_a_challenger_from_an_error(tmp_path):
    for status, said, ended in ((0, "deploy\n", 0), (6, "registered, not promoted\n", 0), (3, "", 3)):
        (tmp_path / "python").write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / "python").chmod(0o755)
        done = subprocess.run(
            ["bash", "-e", "-c", IN_CI],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )
        assert (done.stdout, done.returncode) == (said, ended)
