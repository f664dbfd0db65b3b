"""What a `dvc` command that was killed leaves.

`dvc exp run` checks out a commit while it runs and goes back to the branch at its end. DVC 3 first queues an
experiment: with git on no branch it writes the settings into a commit of its own stash, and keeps what was not
committed in git's stash. Then it runs the experiment, again on no branch.

Every command that runs stages writes `dvc.lock` anew after each of them; a kill meanwhile leaves its beginning.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from manyheads.tracking import git

logger = logging.getLogger(__name__)

RUNNING = ".dvc/tmp/exps/run/workspace/workspace.json"
"""DVC's record of the process that runs an experiment in the workspace, with its number as ``pid``, in a folder that
DVC deletes at the end."""

LOCKED = ".dvc/tmp/exps/rwlock"
"""DVC's record of the processes that use experiments: ``{"write": {NAME: {"pid": ...}}}``, "workspace" to queue one."""

QUEUED = "refs/exps/stash"
"""DVC's reference to experiments that wait for the workspace; the next `dvc exp run` would run them too."""

UNCOMMITTED = "refs/exps/exec/EXEC_MERGE"
"""DVC's reference to the changes that were not committed before the experiment, with those of the experiment."""

COMMITTED, RESTORED = "commit: dvc: commit experiment", "dvc: Restore HEAD"
"""Starts of git's log of HEAD when DVC has committed an experiment, and when it has gone back to the branch."""

DAMAGED = object()
"""Stands for the content of a file that a killed process was writing."""


def warn(root: Path) -> None:
    """Log the commands that bring back what was there, if a `dvc` command was killed.

    Args:
        root: The project's root folder.
    """
    if "DVC_STAGE" in os.environ or not (root / ".dvc/tmp").is_dir():
        return
    locks = {name: _json(root / name) for name in (".dvc/tmp/rwlock", LOCKED)}
    damaged = [name for name, content in locks.items() if content is DAMAGED]
    locked = locks[LOCKED]
    commands: list[str] = []
    changes = ""
    if _was_killed(root, _processes([locked, _json(root / RUNNING)]), damaged):
        commands, changes = _mending(root, damaged, isinstance(locked, dict) and "workspace" in locked.get("write", {}))
    if not any(command.startswith("git checkout") for command in commands) and _is_cut_off(root / "dvc.lock"):
        commands.append("git checkout dvc.lock" if git.output(root, "ls-files", "dvc.lock") else "rm dvc.lock")
    if commands:
        *others, last = [f"`{command}`" for command in commands]
        further = f"; what you had not committed is in `{changes}`" if changes else ""
        logger.warning(
            "warning: a `dvc` command was killed: %s%s what was there before it%s",
            ", ".join(others) + " and " if others else "",
            f"{last} bring{'' if others else 's'} back",
            further,
        )


def _is_cut_off(path: Path) -> bool:
    """Return whether a file has no end of its last line, and stays so if a process is writing it."""
    for wait in (0, 1):
        time.sleep(wait)
        try:
            if path.read_bytes().endswith(b"\n"):
                return False
        except OSError:
            return False
    return True


def _was_killed(root: Path, processes: set[int], damaged: list[str]) -> bool:
    from manyheads.runtime.processes import is_alive

    if any(is_alive(process) for process in processes):
        return False
    if processes or damaged:
        return True
    # DVC forgets dead processes when it starts again, and has no record of its process at the end of an experiment.
    detached, locked = _is_detached(root), any(_locks(root))
    if not (detached or locked):
        return False
    moved = git.output(root, "reflog", "-1", "--format=%gs", "HEAD") or ""
    if detached:
        return locked or moved.startswith(COMMITTED) or (root / RUNNING).parent.exists()
    return moved.startswith(RESTORED)


def _mending(root: Path, damaged: list[str], queueing: bool) -> tuple[list[str], str]:
    """Return the commands that bring back the branch, in their order, and the one for what was not committed."""
    changes = _changes(root, queueing)
    locks = [*_locks(root), *damaged]
    commands = [f"rm -f {' '.join(locks)}"] if locks else []
    if (root / ".git" / QUEUED).exists():
        commands.append(f"git update-ref -d {QUEUED}")
    branch = _branch(root)
    if branch and (_is_detached(root) or changes.endswith("pop")):
        commands += [f"git checkout --force {branch}", "dvc checkout --force --allow-missing"]
    return commands, changes if commands else ""


def _changes(root: Path, queueing: bool) -> str:
    """Return the command that brings back what was not committed, or an empty text if there was nothing."""
    if queueing:  # what git's stash has had before the experiment is not DVC's
        stashed = git.output(root, "log", "-1", "--format=%ct", "refs/stash", "--")
        return "git stash pop" if stashed and int(stashed) >= int((root / LOCKED).stat().st_mtime) else ""
    commit = git.output(root, "rev-parse", "--short", "--verify", "--quiet", UNCOMMITTED)
    return f"git stash apply {commit}" if commit else ""


def _branch(root: Path) -> str:
    """Return the branch that git was on last, or an empty text if it never was on one."""
    if not _is_detached(root):
        return git.output(root, "branch", "--show-current") or ""
    for moved in (git.output(root, "reflog", "--format=%gs", "HEAD") or "").splitlines():
        found = re.match("checkout: moving from (.+) to ", moved)
        if found and git.output(root, "rev-parse", "--verify", "--quiet", f"refs/heads/{found[1]}"):
            return found[1]
    return ""


def _is_detached(root: Path) -> bool:
    try:
        return not (root / ".git/HEAD").read_text(encoding="utf-8").startswith("ref:")
    except OSError:  # no repository, or git's folder is elsewhere
        return False


def _locks(root: Path) -> Iterator[str]:
    """Yield the files with which git and DVC lock the index, HEAD, references and their logs."""
    folder = root / ".git"
    below = (path for name in ("refs", "logs") for path in sorted((folder / name).rglob("*.lock")))
    for path in (folder / "index.lock", folder / "HEAD.lock", *below):
        if path.is_file():
            yield str(path.relative_to(root))


def _json(path: Path) -> Any:
    """Return what a JSON file holds, None if it is not there, and ``DAMAGED`` if it is."""
    try:
        return json.loads(path.read_bytes())
    except OSError:
        return None
    except ValueError:
        return DAMAGED


def _processes(record: Any) -> set[int]:
    """Return the numbers of the processes that a record of DVC names, at whatever depth."""
    if isinstance(record, list):
        return {process for each in record for process in _processes(each)}
    if not isinstance(record, dict):
        return set()
    deeper = {process for each in record.values() for process in _processes(each)}
    return deeper | ({record["pid"]} if isinstance(record.get("pid"), int) else set())
