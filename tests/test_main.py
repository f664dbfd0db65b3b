import os
import subprocess
import sys
from pathlib import Path

import pytest

from manyheads.__main__ import OTHERS, STAGES

ROOT = Path(__file__).parents[1]


def run(*arguments, cwd=ROOT, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "manyheads", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, **options)


def test_help_loads_next_to_nothing():
    code = "import sys; from manyheads.__main__ import usage; usage(); print(len(sys.modules), 'hydra' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    count, hydra = done.stdout.split()
    assert int(count) < 150
    assert hydra == "False"


@pytest.mark.parametrize("name", list(STAGES))
def test_a_stage_has_its_own_help(name):
    done = run(name, "--help")
    assert done.returncode == 0
    assert f"python -m manyheads {STAGES[name].example}" in done.stdout
    assert "age_heavy" in done.stdout


@pytest.mark.parametrize("name", list(OTHERS))
def test_other_commands_have_theirs(name):
    done = run(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: python -m manyheads {name}")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["trian"], 2, "unknown command 'trian' - did you mean 'train'?"),
        (["parse", "train.lrr=1"], 2, "unknown setting 'train.lrr' - did you mean 'train.learning_rate'?"),
        (["parse", "loss=agehevy"], 2, "loss has no option 'agehevy' - did you mean 'age_heavy'?"),
        (["parse", "train.epochs=-1"], 2, "'train.epochs': input should be greater than 0, got -1"),
        (["parse", "loss.weights.age=x"], 2, "'loss.weights.age': input should be a valid number"),
        (["parse", "data=utkface", "data.path=data/raw/nowhere.zip"], 3, "put it at data/raw/nowhere.zip"),
        (["source", "data=utkface", "data.path=data/raw/none.tar.gz"], 3, "non-commercial research"),
        (["predict", "nowhere.jpg"], 3, "nowhere.jpg does not exist"),
    ],
)
def test_errors_are_one_line_with_a_code(arguments, code, message):
    done = run(*arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("error: ")


def test_outside_a_project_it_says_so(tmp_path):
    done = run("parse", cwd=tmp_path)
    assert done.returncode == 5
    assert "in no manyheads project" in done.stderr


def test_a_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m manyheads --help | head -1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("usage:")
    assert done.stderr == ""


def test_only_train_can_be_swept():
    done = run("parse", "--multirun", "seed=1,2")
    assert done.returncode == 2
    assert "only train can be swept" in done.stderr
    assert not (ROOT / "multirun").exists()
