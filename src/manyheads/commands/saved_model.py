"""The saved model that a command works with: its folder, its evaluation, and the user's own heads and inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from manyheads.config.loading import read_params
from manyheads.errors import DataError
from manyheads.modeling import saving
from manyheads.paths import Paths, project_around, project_root


class Place(NamedTuple):
    """Where a saved model lies, and what it may import.

    Attributes:
        folder: A folder from ``saving.save``.
        extensions: Packages that a user's own heads and inputs may be imported from; none outside a project.
        reports: A folder with ``evaluation.json`` and ``model_card.md`` of this model, or None if it has none.
    """

    folder: Path
    extensions: tuple[str, ...]
    reports: Path | None = None

    def card(self) -> saving.ModelCard:
        """Return the card of the model, without TensorFlow; see ``saving.read_card``."""
        return saving.read_card(self.folder, self.extensions)

    def load(self) -> saving.SavedModel:
        """Return the model; see ``saving.load``."""
        return saving.load(self.folder, self.extensions)


def find(reference: str | None) -> Place:
    """Return the place of the model that the option ``--model`` names.

    Args:
        reference: A folder, or what ``tracking.references`` knows; the model of the project by default.

    Raises:
        DataError: There is no such model.
        MachineError: The MLflow store cannot be reached.
    """
    root = project_around()
    params = root / "params.yaml" if root else None
    config = read_params(params) if params and params.exists() else None
    extensions = config.extensions if config else ()
    if reference is None:
        folder = Paths(project_root()).model
    elif Path(reference).is_dir():
        folder = Path(reference)
    else:
        from manyheads.tracking import models, references

        found = references.find(root or Path.cwd(), config.tracking.experiment if config else "", reference)
        folder = models.fetch(found, root / ".cache/models" if root else Path.home() / ".cache/manyheads/models")
    return Place(folder, tuple(extensions), _reports(folder))


def _reports(folder: Path) -> Path | None:
    """Return the folder with the evaluation and the card of a model: its own, or ``reports/`` beside it."""
    for reports in (folder, Paths(folder.parent).evaluation.parent):
        files = (reports / "evaluation.json", reports / "model_card.md")
        if all(file.exists() for file in files) and _is_of(files[0], folder):
            return reports
    return None


def _is_of(evaluation: Path, folder: Path) -> bool:
    """Return whether an evaluation says that it is one of the model in a folder."""
    try:
        digest = json.loads((folder / "model.json").read_text(encoding="utf-8"))["digest"]
        return bool(json.loads(evaluation.read_text(encoding="utf-8"))["model"] == digest)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def test_predictions(root: Path, experiment: str, reference: str, target: Path) -> Path:
    """Return the path of the test predictions of the model that a reference names.

    Args:
        root: The project's root folder.
        experiment: Name of the MLflow experiment of the project's runs.
        reference: As for ``find``.
        target: A folder for downloads.

    Raises:
        DataError: There is no such model, or it was not evaluated.
        MachineError: The MLflow store cannot be reached.
    """
    from manyheads.tracking import models, queries, references, runs

    if Path(reference).is_dir():
        folder = Path(reference)
        beside = Paths(folder.parent)
        if _is_of(beside.evaluation, folder) and beside.predictions.exists():
            return beside.predictions
        tag = runs.model_tag(folder)
        run = queries.run_of_model(experiment, root, tag)
        if run is None:
            raise DataError(f"{reference} has no evaluation beside it, and no run has its model ({tag})")
        found: models.StoredModel = models.run_model(root, run.run_id)
    else:
        found = references.find(root, experiment, reference)
    path = found.file("predictions.csv", target)
    if path is None:
        raise DataError(f"{found.name} has no predictions of the test subset: {found.evaluate_it()}")
    return path
