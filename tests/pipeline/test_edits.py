"""Which edits make DVC train again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

NOT_TRAINING = (
    "src/manyheads/reporting/labels.py",
    "src/manyheads/reporting/result_plots.py",
    "src/manyheads/reporting/templates/report.html",
    "src/manyheads/evaluation/bootstrap.py",
    "src/manyheads/preprocessing/duplicates.py",
    "src/manyheads/sweeps/search.py",
    "src/manyheads/tracking/runs.py",
)
TRAINING = (
    "src/manyheads/heads/regression.py",
    "src/manyheads/inputs/augmentation.py",
    "src/manyheads/encoders/compact.py",
    "src/manyheads/modeling/build.py",
    "src/manyheads/training/loop.py",
    "src/manyheads/heads/metrics.py",
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone") / "project"
    subprocess.run(["git", "clone", "-q", "--no-local", "--depth=1", ROOT.as_uri(), str(folder)], check=True)
    # What is edited here and not committed yet counts, too.
    for name in ("src", "dvc.yaml", "dvc.lock", "params.yaml"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(folder)], check=True)
    return folder


def changed_code(folder, stage):
    """Return the source files and folders that DVC takes for changed."""
    command = [sys.executable, "-m", "dvc", "status", "--json", stage]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    changes = {}
    for entry in json.loads(done.stdout).get(stage, []):
        changes |= entry.get("changed deps", {}) if isinstance(entry, dict) else {}
    return {path for path in changes if path.startswith("src/")}


def edit(path):
    with path.open("a", encoding="utf-8") as file:
        file.write("\n# edited\n")


@pytest.mark.slow
def test_wording_plots_and_pages_do_not_make_dvc_train_again_and_what_shapes_a_training_does(clone):
    assert changed_code(clone, "train") == set(), "dvc.lock is not of this code: run `dvc repro` and commit it"
    for name in NOT_TRAINING:
        edit(clone / name)
    assert changed_code(clone, "train") == set()
    assert "src/manyheads/reporting" in changed_code(clone, "report")
    for name in TRAINING:
        edit(clone / name)
    changed = changed_code(clone, "train")
    for name in TRAINING:
        assert any(name == path or name.startswith(f"{path}/") for path in changed), name
