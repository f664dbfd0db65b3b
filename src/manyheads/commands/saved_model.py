"""The saved model that a command works with: a folder, and the packages of the user's own heads and inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from manyheads.config.loading import read_params
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
        reference: A folder; the model of the project by default.
    """
    root = project_around()
    params = root / "params.yaml" if root else None
    extensions = read_params(params).extensions if params and params.exists() else ()
    folder = Path(reference) if reference else Paths(project_root()).model
    return Place(folder, tuple(extensions), _reports(folder))


def _reports(folder: Path) -> Path | None:
    """Return the folder with the evaluation and the card of a model: its own, or ``reports/`` beside it."""
    for reports in (folder, Paths(folder.parent).evaluation.parent):
        files = (reports / "evaluation.json", reports / "model_card.md")
        if all(file.exists() for file in files) and (reports == folder or _is_of(files[0], folder)):
            return reports
    return None


def _is_of(evaluation: Path, folder: Path) -> bool:
    """Return whether an evaluation says that it is one of the model in a folder."""
    try:
        digest = json.loads((folder / "model.json").read_text(encoding="utf-8"))["digest"]
        return bool(json.loads(evaluation.read_text(encoding="utf-8"))["model"] == digest)
    except (OSError, ValueError, KeyError, TypeError):
        return False
