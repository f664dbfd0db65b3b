"""A `dvc exp run` that was killed: DVC checks out a commit while it runs and goes back to the branch at its end."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from manyheads.tracking import git

logger = logging.getLogger(__name__)

RECORD = ".dvc/tmp/exps/run/workspace/workspace.json"
"""DVC's record of the process that runs an experiment in the workspace, with its number as ``pid``."""

UNCOMMITTED = "refs/exps/exec/EXEC_MERGE"
"""DVC's reference to the changes that were not committed before the experiment, with those of the experiment."""


def warn(root: Path) -> None:
    """Log what brings back the branch, if a killed `dvc exp run` left git on none.

    Args:
        root: The project's root folder.
    """
    if "DVC_STAGE" in os.environ or not _was_killed(root):
        return
    branch = git.output(root, "rev-parse", "--abbrev-ref", "@{-1}") or "main"
    changes = git.output(root, "rev-parse", "--short", "--verify", "--quiet", UNCOMMITTED)
    further = f"; what you had not committed is in `git stash apply {changes}`" if changes else ""
    logger.warning(
        "warning: a `dvc exp run` was killed and left git on no branch: `git checkout --force %s` and `dvc checkout` "
        "bring back what was there before it%s",
        branch,
        further,
    )


def _was_killed(root: Path) -> bool:
    try:
        if (root / ".git/HEAD").read_text(encoding="utf-8").startswith("ref:"):
            return False
        process = json.loads((root / RECORD).read_text(encoding="utf-8"))["pid"]
    except (OSError, ValueError, KeyError, TypeError):  # no record, or not in this form
        return False
    from manyheads.runtime.processes import is_alive

    return isinstance(process, int) and not is_alive(process)
