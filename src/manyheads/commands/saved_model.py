"""The saved model that a command works with: a folder, and the packages of the user's own heads and inputs."""

from __future__ import annotations

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
    """

    folder: Path
    extensions: tuple[str, ...]

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
    return Place(Path(reference) if reference else Paths(project_root()).model, tuple(extensions))
