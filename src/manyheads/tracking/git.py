"""Git: the commit and the DVC experiment that a run belongs to, and files of other revisions."""

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
    commit = output(root, "rev-parse", "HEAD")
    if commit is not None:
        tags["git.commit"] = commit
        tags["git.dirty"] = str(bool(output(root, "status", "--porcelain"))).lower()
    for tag, variable in (
        ("dvc.experiment", "DVC_EXP_NAME"),
        ("dvc.baseline", "DVC_EXP_BASELINE_REV"),
        ("dvc.stage", "DVC_STAGE"),
    ):
        if value := os.environ.get(variable):
            tags[tag] = value
    return tags


def commit_of(root: Path, revision: str) -> str:
    """Return the hash of the commit that a revision or a DVC experiment names, or an empty text if there is none.

    Args:
        root: The project's root folder.
        revision: A branch, a tag, a commit, or the name of a DVC experiment.
    """
    if commit := output(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"):
        return commit
    listed = output(root, "for-each-ref", "--sort=-committerdate", "--format=%(objectname) %(refname)", "refs/exps")
    experiments = (line.split(" ", 1) for line in (listed or "").splitlines())
    return next((commit for commit, name in experiments if name.rpartition("/")[2] == revision), "")


def text_at(root: Path, commit: str, path: str) -> str | None:
    """Return a file of a commit, or None if the commit does not have it.

    Args:
        root: The project's root folder.
        commit: Hash of the commit.
        path: Path of the file relative to the project's root.
    """
    return output(root, "show", f"{commit}:./{path}")


def differs_from_head(root: Path, path: str) -> bool:
    """Return whether a file has changes that are not committed."""
    return bool(output(root, "status", "--porcelain", "--", path))


def output(root: Path, *arguments: str) -> str | None:
    """Return what git prints, without white space at both ends, or None if it fails or is not there."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
