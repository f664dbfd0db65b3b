"""Git provenance: the commit and the DVC experiment that a run belongs to."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def provenance(root: Path) -> dict[str, str]:
    """Return tags for the code and the DVC experiment of a run; what is unknown has no tag.

    Args:
        root: The project's root folder.

    Returns:
        ``git.commit``, ``git.dirty`` (``true`` or ``false``), and from DVC's environment variables ``dvc.experiment``,
        ``dvc.baseline`` and ``dvc.stage``.
    """
    tags = {}
    commit = _git(root, "rev-parse", "HEAD")
    if commit is not None:
        tags["git.commit"] = commit
        tags["git.dirty"] = str(bool(_git(root, "status", "--porcelain"))).lower()
    for tag, variable in (
        ("dvc.experiment", "DVC_EXP_NAME"),
        ("dvc.baseline", "DVC_EXP_BASELINE_REV"),
        ("dvc.stage", "DVC_STAGE"),
    ):
        if value := os.environ.get(variable):
            tags[tag] = value
    return tags


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
