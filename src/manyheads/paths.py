"""Where everything lies: the one place that names the pipeline's files.

``dvc.yaml`` declares the same paths as dependencies and outputs; a test holds the two together.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from manyheads.errors import MachineError


@dataclass(frozen=True)
class Paths:
    """Paths of the pipeline's files below one root folder."""

    root: Path

    @property
    def manifest(self) -> Path:
        """Accepted names and their labels, written by parse."""
        return self.root / "data/manifest.csv"

    @property
    def rejected(self) -> Path:
        """What parse did not accept, with a code and a reason."""
        return self.root / "data/rejected.csv"

    def packed(self, name: str) -> Path:
        """Return where all samples of an input are, one memory-mapped array, written by pack."""
        return self.root / "data/packed" / f"{name}.npy"

    @property
    def samples(self) -> Path:
        """One row for each packed sample: labels, hash, duplicate group."""
        return self.root / "data/packed/samples.csv"

    @property
    def undecodable(self) -> Path:
        """What pack did not accept, with a code and a reason."""
        return self.root / "data/packed/rejected.csv"

    @property
    def splits(self) -> Path:
        """The part of every sample, written by split; fit to be published."""
        return self.root / "data/splits.csv"

    @property
    def split_counts(self) -> Path:
        """How many samples each part has, what was left out and why."""
        return self.root / "reports/split.json"

    @property
    def model(self) -> Path:
        """Folder of the trained model: ``model.keras``, and ``model.json`` that says how to read its outputs."""
        return self.root / "models"

    @property
    def history(self) -> Path:
        """Losses and metrics of each epoch, written by train."""
        return self.root / "reports/history.csv"

    @property
    def metrics(self) -> Path:
        """Test metrics, written by evaluate."""
        return self.root / "reports/metrics.json"

    @property
    def evaluation(self) -> Path:
        """Every test metric with its interval, by group and by confidence, written by evaluate."""
        return self.root / "reports/evaluation.json"

    @property
    def predictions(self) -> Path:
        """Labels and predictions of each test sample, written by evaluate."""
        return self.root / "reports/predictions.csv"

    @property
    def head_reports(self) -> Path:
        """Folder of each head's report as text and JSON, written by evaluate."""
        return self.root / "reports/heads"

    @property
    def plots(self) -> Path:
        """Folder of the tables that ``dvc plots`` shows, written by evaluate."""
        return self.root / "reports/plots"

    @property
    def label_issues(self) -> Path:
        """Labels that models trained without them contradict most, written by audit."""
        return self.root / "reports/label_issues.csv"

    @property
    def report(self) -> Path:
        """The page for people, written by report; it shows pictures of the local data."""
        return self.root / "reports/report.html"

    @property
    def model_card(self) -> Path:
        """What the model is for and what it is worth, written by report."""
        return self.root / "reports/model_card.md"

    @property
    def data_card(self) -> Path:
        """Where the data comes from and what it holds, written by report."""
        return self.root / "reports/data_card.md"

    @property
    def resume(self) -> Path:
        """Folder of unfinished trainings: never a DVC output, which DVC deletes before a stage runs."""
        return self.root / ".cache/resume"

    @property
    def sweeps(self) -> Path:
        """Folder of sweeps, each with its trials and their comparison."""
        return self.root / "reports/sweeps"

    @property
    def searches(self) -> Path:
        """Folder of searches, each with its trials and their comparison."""
        return self.root / "reports/searches"


def project_root() -> Path:
    """Return the nearest folder at or above the working directory that holds a manyheads project.

    Raises:
        MachineError: No such folder.
    """
    if found := project_around():
        return found
    raise MachineError(f"{Path.cwd()} is in no manyheads project (dvc.yaml and conf/config.yaml): cd into your clone")


def project_around() -> Path | None:
    """Return the nearest folder at or above the working directory that holds a manyheads project, if there is one."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "conf/config.yaml").is_file():
            return folder
    return None


def main_project(root: Path) -> Path:
    """Return the project that ``root`` belongs to: DVC runs queued experiments in temporary copies of it."""
    return Path(os.environ.get("DVC_ROOT", root)).resolve()
