"""The pipeline's description in ``dvc.yaml`` and ``dvc.lock``, read without DVC.

Importing ``dvc`` takes more than a second in every trial of a sweep. The two files are therefore read as YAML, and
DVC's digest of a file or folder is computed here; a test compares it with DVC's own. DVC itself is called, as a
process, only for a file of another git revision.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel

from manyheads.errors import IntegrityError
from manyheads.runtime.files import sha256_of

PACKAGE = Path(__file__).parents[1]
CHECKED_STAGES = ("pack", "split")
"""Stages whose outputs the trainings of a sweep share."""


class _File(BaseModel):
    path: str
    md5: str = ""


class _Stage(BaseModel):
    outs: list[_File] = []
    deps: list[_File] = []
    params: dict[str, dict[str, Any]] = {}


class _Lock(BaseModel):
    """What is read of ``dvc.lock``."""

    stages: dict[str, _Stage]


@cache
def code_digests(stage: str, root: Path) -> dict[str, str]:
    """Return the SHA-256 of each source file of this package that a stage depends on in ``dvc.yaml``.

    Args:
        stage: Name of the stage.
        root: The project's root folder.

    Returns:
        Digests by the file's path relative to the package, such as ``training/loop.py``. Folders are listed by their
        Python files.
    """
    listed = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]["deps"]
    paths = [PACKAGE / path.removeprefix("src/manyheads/") for path in listed if path.startswith("src/manyheads/")]
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    return {file.relative_to(PACKAGE).as_posix(): sha256_of(file) for file in files}


def locked_digest(root: Path, path: str) -> str:
    """Return the digest of an output in ``dvc.lock``, or an empty text if it has none or is damaged.

    Args:
        root: The project's root folder.
        path: Path of the output relative to it.
    """
    try:
        outputs = [output for stage in _locked_stages(root).values() for output in stage.outs]
    except IntegrityError:  # no record of a training is worth its end
        return ""
    return next((output.md5 for output in outputs if output.path == path), "")


def require_data_as_locked(settings: Mapping[str, Any], root: Path, overrides: Sequence[str] = ()) -> None:
    """Raise an error unless the packed samples and the split fit ``dvc.lock`` and these settings.

    Args:
        settings: The configuration of a training as plain data, by section.
        root: The project's root folder.
        overrides: The overrides that the configuration was composed with, for the message.

    Raises:
        IntegrityError: A file or a setting differs, or ``dvc.lock`` is damaged; the message has the command that
            repairs it.
    """
    require_settings_as_locked(settings, root, overrides)
    for stage in CHECKED_STAGES:
        for output in _locked_stages(root)[stage].outs:
            path = root / output.path
            if not path.exists() or dvc_digest(path) != output.md5:
                raise IntegrityError(f"{output.path} differs from dvc.lock: run `dvc repro split`")


def is_data_of_lock(root: Path) -> bool:
    """Return whether the table of packed samples is the one that ``dvc.lock`` describes.

    It is another one if somebody ran the stages without DVC.

    Raises:
        IntegrityError: ``dvc.lock`` is damaged.
    """
    split = _locked_stages(root).get("split", _Stage())
    locked = {each.path: each.md5 for each in split.deps if each.path.endswith(".csv")}
    return bool(locked) and all((root / path).exists() and dvc_digest(root / path) == locked[path] for path in locked)


def require_settings_as_locked(settings: Mapping[str, Any], root: Path, overrides: Sequence[str] = ()) -> None:
    """Raise an error unless ``dvc.lock`` says that the packed samples and the split were made with these settings.

    Args:
        settings: The configuration of a training as plain data, by section.
        root: The project's root folder.
        overrides: The overrides that the configuration was composed with, for the message.

    Raises:
        IntegrityError: A setting differs, or ``dvc.lock`` is damaged; the message has the command that repairs it.
    """
    stages = _locked_stages(root)
    for stage in CHECKED_STAGES:
        if stage not in stages:
            raise IntegrityError(f"dvc.lock has no stage {stage}: run `dvc repro split` first")
        for key, locked in stages[stage].params.get("params.yaml", {}).items():
            wanted: Any = settings
            for name in key.split("."):
                wanted = wanted.get(name) if isinstance(wanted, Mapping) else None
            if (different := _difference(key, locked, wanted)) is not None:
                raise IntegrityError(
                    f"the packed data was made with {different.setting}={different.locked}, but this configuration has "
                    f"{different.setting}={different.wanted}: run "
                    f"`{shlex.join(['python', '-m', 'manyheads', 'params', *_of_the_data(overrides)])} && "
                    "dvc repro split`, then this command again"
                )


def _of_the_data(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that choose the data or its split."""
    chosen = ("data", "inputs", "split", "extensions", "experiment", "debug")
    return [override for override in overrides if re.split(r"[.=]", override.lstrip("+"), maxsplit=1)[0] in chosen]


class _Difference(NamedTuple):
    setting: str
    locked: Any
    wanted: Any


def _difference(setting: str, locked: Any, wanted: Any) -> _Difference | None:
    if isinstance(locked, dict) and isinstance(wanted, Mapping):
        # A setting that the lock lacks has its default value, so only the lock's settings are compared.
        found = (_difference(f"{setting}.{key}", locked[key], wanted.get(key)) for key in locked)
        return next((difference for difference in found if difference is not None), None)
    return None if locked == wanted else _Difference(setting, locked, wanted)


def dvc_digest(path: Path) -> str:
    """Return DVC's digest of a file or a folder.

    A file has the MD5 of its bytes. A folder has the MD5 of the JSON list of its files' digests and relative paths,
    sorted by path, with the ending ``.dir``.
    """
    if path.is_dir():
        listed = [
            {"md5": dvc_digest(file), "relpath": file.relative_to(path).as_posix()}
            for file in path.rglob("*")
            if file.is_file()
        ]
        listed.sort(key=lambda entry: entry["relpath"])
        return f"{hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest()}.dir"
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _locked_stages(root: Path) -> dict[str, _Stage]:
    """Return what ``dvc.lock`` says of each stage; nothing if there is no such file.

    Raises:
        IntegrityError: The file is damaged.
    """
    path = root / "dvc.lock"
    try:
        return _Lock.model_validate(yaml.safe_load(path.read_bytes())).stages
    except OSError:
        return {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise IntegrityError(
            f"{path} is damaged: restore it with `git checkout dvc.lock`, or delete it and run `dvc repro`"
        ) from error


def fetch_output(root: Path, path: Path, revision: str, target: Path) -> str:
    """Write an output of the pipeline at a git revision, from DVC's cache.

    Args:
        root: The project's root folder.
        path: The output, below ``root``.
        revision: A branch, a tag, a commit, or the name of a DVC experiment.
        target: The file to write.

    Returns:
        Why it could not be fetched, or an empty text.
    """
    relative = str(path.relative_to(root))
    command = [sys.executable, "-m", "dvc", "get", str(root), relative, "--rev", revision, "--out", str(target)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    return " ".join(done.stderr.split())[:200] or f"dvc get ended with status {done.returncode}"
