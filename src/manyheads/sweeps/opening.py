"""Opening the folder and the MLflow run of a sweep or a search, new or known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from manyheads.config.schema import Config
from manyheads.paths import Paths
from manyheads.runtime.files import json_digest, write_text
from manyheads.sweeps.trials import Kind, TrialStore
from manyheads.tracking import git
from manyheads.tracking.runs import RunSpec
from manyheads.training import fingerprint


def make_folder(parent: Path, name: str, known_by: Sequence[str]) -> Path:
    """Return the folder of a sweep or search, which is made if it does not exist.

    Args:
        parent: Folder of all sweeps, or of all searches.
        name: What the folder's name begins with.
        known_by: Texts that together identify the sweep or search: the same ones give the same folder.
    """
    folder = parent / f"{name}-{json_digest(list(known_by), 8)}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def open_store(
    root: Path, folder: Path, kind: Kind, command: str, config: Config, open_run: Callable[[RunSpec], str]
) -> TrialStore:
    """Open the MLflow run of a sweep or search and return its trials.

    The run's id is kept in the folder, so that the same command continues the run.

    Args:
        root: The project's root folder.
        folder: Folder of the sweep or search.
        kind: What it is.
        command: What was typed.
        config: One of its configurations.
        open_run: Opens a run and returns its id, or an empty text if the store cannot be reached.
    """
    remembered = folder / "run_id"
    tags = {
        **git.provenance(root),
        kind: folder.name,
        "command": command,
        "split": fingerprint.split_digest(Paths(root)),
        "data": config.data.name,
    }
    known = remembered.read_text(encoding="utf-8").strip() if remembered.exists() else ""
    run_id = open_run(RunSpec(folder.name, tags, run_id=known))
    if run_id:
        write_text(remembered, f"{run_id}\n")
    return TrialStore(root, folder, kind, run_id)
