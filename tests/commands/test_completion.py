import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from manyheads.__main__ import OTHERS, STAGES
from manyheads.commands import completion, parsers

ROOT = Path(__file__).parents[2]

# What a line completes to; the words after the last "=" alone in bash, which takes "=" as the end of a word.
LINES = {
    "manyheads tr": {"train"},
    "manyheads train loss=b": {"balanced"},
    "manyheads train train.ep": {"train.epochs="},
    "manyheads compare --te": {"--test"},
    "manyheads predict READ": {"README.md"},
    "manyheads weights fa": {"face"},
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return tmp_path


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout


def test_every_command_has_its_command_line_where_completion_finds_it():
    for name in OTHERS:
        assert getattr(parsers, name)().prog == f"python -m manyheads {name}"
    for name in STAGES:
        assert parsers.stage(name).prog == f"python -m manyheads {name}"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("los", {"loss=", "loss.weights.age="}),
        ("debug=", {"debug=fast", "debug=overfit"}),
        ("+sweep=s", {"+sweep=sample"}),
        ("loss=learned,bal", {"loss=learned,balanced"}),
        ("train.epochs=", set()),
    ],
)
def test_overrides_are_groups_options_and_settings(typed, expected):
    found = {each for each in completion.overrides(typed, ROOT) if each.startswith(typed)}
    assert expected <= found
    assert expected or not found


def test_outside_a_project_there_are_no_overrides():
    assert completion.overrides("loss", None) == []


def test_completion_imports_next_to_nothing():
    code = (
        "import sys; from manyheads.commands import completion; "
        f"completion.overrides('loss=', __import__('pathlib').Path({str(ROOT)!r})); "
        "print(*(name for name in ('hydra', 'pandas', 'numpy', 'pydantic', 'mlflow', 'keras') if name in sys.modules))"
    )
    assert run(sys.executable, "-c", code).split() == []


@pytest.mark.parametrize(("shell", "rc"), [("bash", ".bashrc"), ("zsh", ".zshrc"), ("fish", None)])
def test_installation_says_what_it_writes_and_a_second_one_changes_nothing(shell, rc, home, monkeypatch, capsys):
    if rc:
        (home / rc).write_text("alias ll='ls -l'")  # without a newline at the end
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    completion.install([])
    said = capsys.readouterr().out
    written = {path: path.read_text() for path in home.rglob("*") if path.is_file()}
    assert all(str(path) in said for path in written)
    if rc:
        assert written[home / rc].splitlines()[0] == "alias ll='ls -l'"
    completion.install([shell])
    assert {path: path.read_text() for path in home.rglob("*") if path.is_file()} == written
    assert "wrote" not in capsys.readouterr().out


@pytest.mark.slow
def test_bash_completes(home):
    completion.install(["bash"])
    (home / "lines.sh").write_text(
        '. ~/.bashrc\nfor line in "$@"; do COMP_LINE=$line COMP_POINT=${#line} COMPREPLY=()\n'
        'COMP_WORDS=($line); "$(complete -p manyheads | sed "s/.*-F \\([^ ]*\\).*/\\1/")" manyheads\n'
        'echo "${COMPREPLY[@]}"; done\n'
    )
    answers = run("bash", "--norc", str(home / "lines.sh"), *LINES).splitlines()
    assert [set(answer.split()) for answer in answers] == list(LINES.values())


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_completes(home):
    completion.install(["fish"])
    for line, expected in LINES.items():
        answers = [answer.split("\t")[0] for answer in run("fish", "-c", f"complete -C '{line}'").splitlines()]
        assert {answer.rpartition("=")[2] if "loss=" in line else answer for answer in answers} == expected


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_completes(home):
    completion.install(["zsh"])
    script = home / "type.zsh"
    # A line is typed into a zsh on a terminal, which writes the completed line.
    script.write_text(
        "zmodload zsh/zpty; zpty shell zsh -d -i\n"
        "zpty -w shell 'PS1=ready; print now'; zpty -r shell seen '*now*ready*'\n"
        "zpty -w -n shell $'manyheads train loss=soft\\t'; zpty -r shell seen '*loss=soft_label*'; print -r -- $seen\n"
    )
    assert "loss=soft_label" in run("zsh", "-f", str(script))
