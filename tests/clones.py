"""Copies of the project in which commands run as a user's do."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import mlflow
from dvc.repo import Repo

from stores import empty_store

ROOT = Path(__file__).parents[1]
NOT_OURS = ("MLFLOW_", "DVC_", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")


def copy_project(folder: Path) -> None:
    """Copy the project's files, committed or not, to a folder; what git ignores is left out."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


class Clone:
    """A committed copy of the project as it stands, with what git ignores left out; or a git clone that is there.

    Args:
        folder: An empty folder, or one with a git clone.
        python: The program that stands for Python; see ``forking``.
        overrides: What ``params.yaml`` of a copy is composed with.
    """

    def __init__(self, folder: Path, python: str, overrides: Sequence[str] = ()):
        self.root = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)},
            "PATH": os.pathsep.join([str(Path(python).parent), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org",
            "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org",
        }  # fmt: skip
        if (folder / ".git").exists():
            return
        copy_project(folder)
        shutil.copy(empty_store(), folder)
        self.run("git", "init", "-q")
        self.run("python", "-m", "manyheads", "params", *overrides, PYTHONPATH="src")
        self.commit("clone")

    def run(self, *command: str, **environment: str) -> str:
        """Run a command that succeeds, and return what it writes."""
        done = self._run(command, environment)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def fails(self, *command: str) -> str:
        """Run a command that fails, and return its errors."""
        done = self._run(command, {"PYTHONPATH": "src"})
        assert done.returncode != 0, f"{command}\n{done.stdout[-3000:]}"
        return done.stderr

    def _run(self, command: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.root, env=self.environment | environment, capture_output=True, text=True, timeout=280
        )

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", message)

    def up_to_date(self) -> bool:
        """Return whether ``dvc status`` has nothing to say."""
        with Repo(str(self.root)) as repo:
            return repo.status() == {}

    def runs(self) -> list[mlflow.entities.Run]:
        mlflow.set_tracking_uri(f"sqlite:///{self.root}/mlflow.db")
        return mlflow.MlflowClient().search_runs(["1"], order_by=["start_time ASC"])
