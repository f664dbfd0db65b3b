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


def make_folder(parent: Path, name: str, identity: Sequence[str]) -> Path:
    """Return the folder of a sweep or search; it is made if it does not exist.

    Args:
        parent: Folder of all sweeps, or of all searches.
        name: Start of the folder's name.
        identity: Texts that together identify the sweep or search: the same texts give the same folder.
    """
    folder = parent / f"{name}-{json_digest(list(identity), 8)}"
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
        kind: ``sweep`` or ``search``.
        command: The shell command.
        config: One of its configurations.
        open_run: Opens a run and returns its id, or an empty text if the store cannot be reached.
    """
    run_id_file = folder / "run_id"
    tags = {
        **git.provenance(root),
        kind: folder.name,
        "command": command,
        "split": fingerprint.split_digest(Paths(root)),
        "data": config.data.title,
    }
    known = run_id_file.read_text(encoding="utf-8").strip() if run_id_file.exists() else ""
    name = folder.name if folder.name.startswith(f"{kind}-") else f"{kind} {folder.name}"
    run_id = open_run(RunSpec(name, tags, run_id=known))
    if run_id:
        write_text(run_id_file, f"{run_id}\n")
    return TrialStore(root, folder, kind, run_id)
