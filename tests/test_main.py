import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from manyheads.__main__ import OTHERS, STAGES, main

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(capsys, monkeypatch):
    """Return a function that runs a command in this process and returns its exit code, output and errors."""

    def run(*arguments, folder=ROOT):
        monkeypatch.chdir(folder)
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        return end.value.code or 0, *capsys.readouterr()

    # What a command changes for its whole process.
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    yield run
    for number, handler in handlers:
        signal.signal(number, handler)


def test_help_loads_next_to_nothing():
    code = "import sys; from manyheads.__main__ import usage; usage(); print(len(sys.modules), 'hydra' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    count, hydra = done.stdout.split()
    assert int(count) < 150
    assert hydra == "False"


def test_the_version_is_that_of_the_project_and_loads_next_to_nothing():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    code = "import sys; from manyheads.__main__ import main; main(['--version']); print('hydra' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines() == [f"manyheads {project['version']}", "False"]


def test_an_error_in_a_temporary_copy_names_no_folder_that_is_gone(run, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "conf", copy / "conf")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, copy)
    code, _, errors = run("report", "--params", folder=copy)
    assert f"{copy}/" in errors
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert run("report", "--params", folder=copy) == (code, "", errors.replace(f"{copy}/", ""))


@pytest.mark.parametrize("name", list(STAGES))
def test_a_stage_has_its_own_help(name, run):
    code, out, _ = run(name, "--help")
    assert code == 0
    assert f"python -m manyheads {STAGES[name].example}" in out
    assert "age_heavy" in out


@pytest.mark.parametrize("name", list(OTHERS))
def test_other_commands_have_theirs(name, run):
    code, out, _ = run(name, "--help")
    assert code == 0
    assert out.startswith(f"usage: python -m manyheads {name}")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["trian"], 2, "unknown command 'trian' - did you mean 'train'?"),
        (["parse", "train.lrr=1"], 2, "unknown setting 'train.lrr' - did you mean 'train.learning_rate'?"),
        (["parse", "loss=agehevy"], 2, "loss has no option 'agehevy' - did you mean 'age_heavy'?"),
        (["parse", "=3"], 2, "'=3' names no setting: write section.key=value or group=option"),
        (["train", "-m", "model=null,small"], 2, "model=null,small: a group has no option null"),
        (["train", "-m", "=3"], 2, "'=3' names no setting: write section.key=value or group=option"),
        (["params", ""], 2, "'' names no setting: write section.key=value or group=option"),
        (
            ["train", "model.encoder=pretrained"],
            2,
            "encoder 'pretrained' has no stem, widths, blocks: choose an option of model that has this encoder, or "
            "give its own settings, backbone, weights",
        ),
        (["parse", "train.epochs=-1"], 2, "'train.epochs': input should be greater than 0, got -1"),
        (["parse", "loss.weights.age=x"], 2, "'loss.weights.age': input should be a valid number"),
        (
            ["parse", "data=utkface", "data.path=data/raw/nowhere.zip"],
            3,
            "data/raw/nowhere.zip is missing: get UTKFace",
        ),
        (["source", "data=utkface", "data.path=data/raw/none.tar.gz"], 3, "non-commercial research"),
        (["predict", "nowhere.jpg"], 3, "nowhere.jpg does not exist"),
    ],
)
def test_errors_are_one_line_with_a_code(arguments, code, message, run):
    assert_one_line(*run(*arguments), code, message)


def assert_one_line(code, _, errors, expected, message):
    assert code == expected
    assert message in errors
    assert len(errors.strip().splitlines()) == 1
    assert errors.startswith("error: ")


def test_an_error_is_one_line_in_a_process_of_its_own():
    command = [sys.executable, "-m", "manyheads", "parse", "train.lrr=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert_one_line(done.returncode, done.stdout, done.stderr, 2, "unknown setting 'train.lrr'")


def test_outside_a_project_it_says_so(tmp_path, run):
    code, _, errors = run("parse", folder=tmp_path)
    assert code == 5
    assert "in no manyheads project" in errors


def test_a_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m manyheads --help | head -1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("usage:")
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", ["--help", "predict /dev/null/x.jpg", "--version"])
def test_an_output_that_is_full_or_closed_is_one_line_or_none(command):
    def run(redirection):
        line = f"{sys.executable} -m manyheads {command} {redirection}"
        done = subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, text=True)
        return done.returncode, done.stderr

    expected, errors = run("")
    assert run(">&-") == (expected, errors)
    if not errors:
        assert run(">/dev/full") == (
            5,
            "error: the output cannot be written: No space left on device: free the disk, or name another place\n",
        )


def test_only_train_can_be_swept(run):
    code, _, errors = run("parse", "--multirun", "seed=1,2")
    assert code == 2
    assert "only train can be swept" in errors
    assert not (ROOT / "multirun").exists()
