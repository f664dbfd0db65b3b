"""What docs/sharing.md and examples/ say, run word for word in two clones with a folder as DVC remote.

The default of the clones is debug=fast with a smaller network, so that a training takes a moment.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from clones import Clone

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/sharing.md").read_text(encoding="utf-8")
ONCE, TRAINS, OTHERS, EXPERIMENT, ELSEWHERE = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
WORKFLOW = yaml.safe_load((ROOT / "examples/pull_request.yaml").read_text(encoding="utf-8"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def shell(clone: Clone, script: str, **environment: str) -> str:
    return clone.run("bash", "-e", "-o", "pipefail", "-c", script, PYTHONPATH="src", **environment)


@pytest.fixture(scope="module")
def ours(tmp_path_factory, warm_python):
    """Return the clone of the one who trains, with a git remote ``origin``."""
    made = Clone(tmp_path_factory.mktemp("sharing") / "ours", warm_python)
    config, fast = made.root / "conf/config.yaml", made.root / "conf/debug/fast.yaml"
    config.write_text(config.read_text().replace("debug: null", "debug: fast"))
    smaller = "model:\n  stem: [8]\n  widths: [8]\n  blocks: [1]\ntrain:\n  optimizer: sgd\n"
    fast.write_text(fast.read_text().replace("train:\n", smaller))
    made.run("python", "-m", "manyheads", "params", PYTHONPATH="src")
    made.commit("fast")
    shell(made, "git branch -M main; git init -q --bare ../origin.git; git remote add origin ../origin.git")
    shell(made, "git push -q -u origin main; git --git-dir ../origin.git symbolic-ref HEAD refs/heads/main")
    return made


@pytest.fixture(scope="module")
def theirs(ours, warm_python):
    """Return another clone, made before anything was trained."""
    folder = ours.root.parent / "theirs"
    ours.run("git", "clone", "-q", str(ours.root.parent / "origin.git"), str(folder))
    return Clone(folder, warm_python)


def same(first: Clone, second: Clone, *names: str) -> bool:
    return all((first.root / name).read_bytes() == (second.root / name).read_bytes() for name in names)


def test_another_clone_has_the_model_and_the_report_without_a_training(ours, theirs):
    shell(ours, ONCE)
    said = shell(ours, TRAINS)
    assert "Running stage 'report'" in said

    shell(theirs, OTHERS)
    assert same(ours, theirs, "models/model.keras", "reports/report.html", "data/packed/image.npy")
    assert not (theirs.root / "mlflow.db").exists()
    assert not (theirs.root / "data/raw/sample.zip").exists()
    assert "Running stage" not in shell(theirs, "dvc repro --allow-missing")
    planned = shell(theirs, "sed -i 's/^seed: 1$/seed: 2/' params.yaml; dvc repro --allow-missing --dry")
    shell(theirs, "git checkout -q params.yaml")
    # What depends on a new model is not known yet.
    assert re.findall(r"Running stage '(\w+)'", planned) == ["audit", "train", "report"]


def test_an_experiment_travels_by_its_name(ours, theirs):
    shell(ours, EXPERIMENT)
    shell(theirs, ELSEWHERE)
    assert same(ours, theirs, "models/model.keras", "reports/metrics.json", "params.yaml")
    assert "name: age_heavy" in (theirs.root / "params.yaml").read_text()


def step(job: str, name: str) -> dict:
    (found,) = [step for step in WORKFLOW["jobs"][job]["steps"] if step.get("name") == name]
    return found


def test_the_workflow_comments_what_a_pull_request_changes(ours, tmp_path):
    """The steps run as GitHub runs them; only ``gh`` is replaced, by a program that keeps what it is given.

    A seed that is not the one of ``dvc.lock`` makes stages out of date.
    """
    base = ours.run("git", "rev-parse", "main").strip()
    ours.run("git", "checkout", "-q", "-b", "heavier-age")
    ours.commit("Heavier age")
    head = ours.run("git", "rev-parse", "HEAD").strip()
    (ours.root / ".venv").symlink_to(sys.prefix)
    params = ours.root / "params.yaml"
    params.write_text(params.read_text().replace("seed: 1\n", "seed: 2\n", 1))
    output, summary = tmp_path / "output", tmp_path / "summary.md"
    shell(ours, step("compare", "Compare")["run"], BASE=base, HEAD=head)
    files = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)}
    shell(ours, step("compare", "Pass the comment on")["run"], **files)
    (text,) = re.fullmatch(r"text<<(?P<end>\w+)\n(.*)\n(?P=end)\n", output.read_text(), re.DOTALL).groups()[1:]
    gh = tmp_path / "bin/gh"
    gh.parent.mkdir()
    gh.write_text('#!/bin/sh\necho "$@" > called\ncp "$5" posted.md\n')
    gh.chmod(0o755)
    path = f"{gh.parent}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-e", "-c", step("comment", "Comment")["run"]],
        cwd=tmp_path, env={"PATH": path, "NUMBER": "7", "TEXT": text, "GH_TOKEN": "t", "GH_REPO": "o/r"}, check=True,
    )  # fmt: skip
    assert (tmp_path / "called").read_text().startswith("pr comment 7 ")
    posted = (tmp_path / "posted.md").read_text()
    assert posted.strip() == summary.read_text().strip()
    assert re.search(r"^\| reports/metrics\.json +\| score +\|", posted, re.MULTILINE)
    assert re.search(r"^\| params\.yaml +\| loss\.weights\.age +\| 1\.0 +\|", posted, re.MULTILINE)
    assert re.search(r"^On 20 test samples, ", posted, re.MULTILINE)
    assert re.findall(r"^Running stage '(\w+)'", posted, re.MULTILINE) == ["audit", "train", "report"]
    assert "These stages are out of date" in posted


def test_the_code_of_a_pull_request_can_only_read():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert "permissions" not in WORKFLOW["jobs"]["compare"]
    runs_code = [step.get("uses", "") for step in WORKFLOW["jobs"]["comment"]["steps"]]
    assert not any("checkout" in uses for uses in runs_code)
    # An expression in a script would run what the author of the pull request writes.
    for job in WORKFLOW["jobs"].values():
        assert not any("${{" in step.get("run", "") for step in job["steps"])


def test_the_targets_of_the_workflow_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {word for name in ("Install", "Check") for word in step("compare", name)["run"].split()[1:]}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
