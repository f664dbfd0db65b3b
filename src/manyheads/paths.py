"""Paths of the pipeline's files, and the root of the project.

``dvc.yaml`` declares the same paths as dependencies and outputs; a test checks that both agree.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from manyheads.errors import MachineError


@dataclass(frozen=True)
class Paths:
    """Paths of the pipeline's files below a root folder.

    Attributes:
        root: The root folder, such as that of a project or of a trial.
    """

    root: Path

    @property
    def manifest(self) -> Path:
        """Accepted samples and their labels, written by parse."""
        return self.root / "data/manifest.csv"

    @property
    def rejected(self) -> Path:
        """Samples that parse rejected, with a code and a reason."""
        return self.root / "data/rejected.csv"

    def packed(self, name: str) -> Path:
        """Return the path of the array of all samples of an input, written by pack."""
        return self.root / "data/packed" / f"{name}.npy"

    @property
    def samples(self) -> Path:
        """Table of the packed samples with labels, hash and duplicate group, written by pack."""
        return self.root / "data/packed/samples.csv"

    @property
    def properties(self) -> Path:
        """Table of the packed samples' properties by input, such as the size of an image, written by pack."""
        return self.root / "data/packed/properties.csv"

    @property
    def undecodable(self) -> Path:
        """Samples that pack rejected, with a code and a reason."""
        return self.root / "data/packed/rejected.csv"

    @property
    def splits(self) -> Path:
        """The subset of each sample, written by split; it contains no data and may be published."""
        return self.root / "data/splits.csv"

    @property
    def split_counts(self) -> Path:
        """Number of samples in each subset and of excluded samples by rule, written by split."""
        return self.root / "reports/split.json"

    @property
    def model(self) -> Path:
        """Folder of the trained model: ``model.keras`` and its description ``model.json``, written by train."""
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
        """All test metrics with intervals, by group and by confidence, written by evaluate."""
        return self.root / "reports/evaluation.json"

    @property
    def predictions(self) -> Path:
        """Labels and predictions of each test sample, written by evaluate."""
        return self.root / "reports/predictions.csv"

    @property
    def head_reports(self) -> Path:
        """Folder of the reports of all heads as text and JSON, written by evaluate."""
        return self.root / "reports/heads"

    @property
    def plots(self) -> Path:
        """Folder of the tables that ``dvc plots`` shows, written by evaluate."""
        return self.root / "reports/plots"

    @property
    def label_issues(self) -> Path:
        """Labels that are probably wrong, written by audit."""
        return self.root / "reports/label_issues.csv"

    @property
    def report(self) -> Path:
        """The report as a page, written by report; it shows thumbnails of the local data."""
        return self.root / "reports/report.html"

    @property
    def model_card(self) -> Path:
        """Description of the model, its use and its metrics, written by report."""
        return self.root / "reports/model_card.md"

    @property
    def data_card(self) -> Path:
        """Description of the data and its origin, written by report."""
        return self.root / "reports/data_card.md"

    @property
    def weights(self) -> Path:
        """Folder of published weights, written by the command ``weights``.

        DVC need not watch it: a setting names the weights, and their digest is part of the code.
        """
        return self.root / "data/weights"

    @property
    def resume(self) -> Path:
        """Folder of checkpoints. It is not a DVC output because DVC deletes outputs before a stage runs."""
        return self.root / ".cache/resume"

    @property
    def sweeps(self) -> Path:
        """Folder of sweeps, each in a folder with its trials and their comparison."""
        return self.root / "reports/sweeps"

    @property
    def searches(self) -> Path:
        """Folder of searches, each in a folder with its trials and their comparison."""
        return self.root / "reports/searches"


def project_root() -> Path:
    """Return the nearest folder at or above the working directory that contains a manyheads project.

    Raises:
        MachineError: There is no such folder.
    """
    if found := project_around():
        return found
    raise MachineError(f"{Path.cwd()} is in no manyheads project (dvc.yaml and conf/config.yaml): cd into your clone")


def project_around() -> Path | None:
    """Return the nearest folder at or above the working directory that contains a manyheads project, or None."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "conf/config.yaml").is_file():
            return folder
    return None


def main_project(root: Path) -> Path:
    """Return the main project of ``root``, which may be a temporary copy that DVC runs an experiment in."""
    return Path(os.environ.get("DVC_ROOT", root)).resolve()


def is_temporary(root: Path) -> bool:
    """Return whether ``root`` is a temporary copy of the project, which DVC deletes when the experiment has ended."""
    return main_project(root) != root.resolve()


def brought_here(path: Path, root: Path) -> str:
    """Return the path of an output for people; in a temporary copy, with the command that brings it to the project."""
    if not is_temporary(root):
        return str(path)
    experiment = os.environ.get("DVC_EXP_NAME", "EXPERIMENT")
    return f"{path.relative_to(root)} (`dvc exp apply {experiment}` brings it here)"
