"""Settings that are nothing, lead elsewhere or name code, and commands in unusual places."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import compose
from manyheads.__main__ import run_stage
from manyheads.config import composition, loading
from manyheads.errors import ConfigError
from serving_models import jpeg, save_untrained

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("setting", ["train.epochs", "train.learning_rate", "data.path", "seed", "model", "data.heads"])
def test_row_46_null_is_no_value(setting, tmp_path):
    with pytest.raises(ConfigError) as caught:
        composition.compose(ROOT, [f"{setting}=null"])
    assert setting.rpartition(".")[2] in str(caught.value)
    assert "\n" not in str(caught.value)
    path = tmp_path / "params.yaml"
    for text in ("null\n", "~", "- 1\n", "text\n", "# nothing\n"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"params\.yaml"):
            loading.read_params(path)


@pytest.mark.parametrize("group", ["model", "loss", "data", "split"])
def test_row_47_all_options_of_a_group_are_listed(group):
    with pytest.raises(ConfigError, match=f"{group} has no option 'nowhere'") as caught:
        composition.compose(ROOT, [f"{group}=nowhere"])
    for option in (ROOT / "conf" / group).glob("*.yaml"):
        assert option.stem in str(caught.value)


@pytest.mark.parametrize("target", ["os.system", "builtins.exec", "logging.os.system", "subprocess.run", "pty.spawn"])
def test_row_48_a_target_in_settings_runs_nothing(target, tmp_path, monkeypatch):
    canary = tmp_path / "canary"
    call = f"_target_: {target}, _args_: ['touch {canary}']"
    with pytest.raises(ConfigError):
        composition.compose(ROOT, [f"+train.own={{{call}}}"])
    for name in ("conf", "dvc.yaml", "params.yaml"):
        (shutil.copytree if name == "conf" else shutil.copy)(ROOT / name, tmp_path / name)
    with (tmp_path / "conf/config.yaml").open("a") as file:
        file.write(f"\nhydra: {{callbacks: {{own: {{{call}}}}}}}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ConfigError, match=f"Target '.*{target.rpartition('.')[2]}'.* is blocklisted") as caught:
        run_stage("train", ["-m", "seed=1,2"])
    assert "\n" not in str(caught.value)
    assert not canary.exists()


@pytest.mark.slow
def test_row_50_another_folder_blanks_in_the_path_and_a_home_that_cannot_be_written(tmp_path):
    root = tmp_path / "my own project é"
    (root / "deep/er").mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "conf", root / "conf")
    (root / "models").mkdir()
    save_untrained(root / "models", compose("inputs.image.image_size=16", "model.stem=[8]", "model.widths=[8,16]",
                                            "model.blocks=[1,1]"))  # fmt: skip
    (root / "deep/er/a photograph.jpg").write_bytes(jpeg())
    environment = {**os.environ, "HOME": "/dev/null/home", "PYTHONPATH": str(ROOT / "src")}

    def run(*arguments):
        command = [sys.executable, "-m", "manyheads", *arguments]
        done = subprocess.run(command, cwd=root / "deep/er", env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    assert "up to date" in run("params", "--check")
    assert run("predict", "a photograph.jpg").splitlines()[1].startswith("a photograph.jpg,")
