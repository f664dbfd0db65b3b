"""The place of the raw data: below ``data/raw/``, as links to the user's files where the file system allows it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from manyheads.errors import DataError, MachineError
from manyheads.guessing.sources import Source
from manyheads.runtime.files import atomic_write
from manyheads.runtime.progress import track


def planned(source: Source, root: Path, name: str) -> Path:
    """Return where the data lies or will lie.

    Args:
        source: The data.
        root: The project's root folder.
        name: Name of the new dataset.

    Raises:
        DataError: Other data is at that place.
        MachineError: Git would commit the data.
    """
    raw = (root / "data/raw").resolve()
    path = source.path.resolve()
    if source.keeps_its_place and path.is_relative_to(raw) and path != raw:
        return path
    target = raw / name
    if not source.files:
        # "photos.tar.gz" keeps both of its endings.
        ending = "".join(path.suffixes[-2:]) if path.name.lower().endswith(".tar.gz") else path.suffix
        target = raw / f"{name}{ending.lower()}"
    if target.exists() or target.is_symlink():
        shown = target.relative_to(root.resolve())
        if path == target:
            raise DataError(
                f"{shown} holds links, or its files are not where the project reads them: choose another NAME, under "
                "which they are linked in order"
            )
        raise DataError(f"{shown} exists: use it with --from {shown}, choose another NAME, or move it away")
    if shutil.which("git") and _is_committed(root, target):
        raise MachineError(f"git would commit {target.relative_to(root.resolve())}: add data/raw/ to .gitignore")
    return target


def _is_committed(root: Path, target: Path) -> bool:
    # Exit code 0: ignored, 1: not ignored, 128: no repository.
    return (
        subprocess.run(["git", "check-ignore", "--quiet", str(target)], cwd=root, capture_output=True).returncode == 1
    )


def place(source: Source, target: Path) -> str:
    """Put the data at a place where nothing is, whole or not at all.

    Args:
        source: The data.
        target: The place, from ``planned``.

    Returns:
        What was done, in a few words.

    Raises:
        MachineError: A file cannot be read or written.
    """
    if target == source.path.resolve():
        return "read where it lies"
    with atomic_write(target) as unfinished:
        if not source.files:
            linked = _link(source.path.resolve(), unfinished)
            return f"{'linked' if linked else 'copied'} from {source.path}"
        count = _link_all(source.files, unfinished)
    copied = len(source.files) - count
    how = "linked" if not copied else "copied" if not count else f"linked, {copied:,} of them copied,"
    return f"{len(source.files):,} files {how} from {source.path}"


def _link_all(files: Mapping[str, Path], folder: Path) -> int:
    linked = 0
    for name, path in track(files.items(), "placing files", len(files)):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        linked += _link(path, target)
    return linked


def _link(path: Path, target: Path) -> bool:
    """Make a hard link, or a copy where that is not possible, such as on another disk; return whether it is a link."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
        return False
    return True
