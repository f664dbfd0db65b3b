"""What ``dvc.yaml`` and ``dvc.lock`` say of the pipeline; DVC itself is called for other revisions alone."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from manyheads.config.schema import Config
from manyheads.errors import IntegrityError
from manyheads.runtime.files import sha256_of

PACKAGE = Path(__file__).parents[1]


@cache
def code_of(stage: str, root: Path) -> dict[str, str]:
    """Return the SHA-256 of each source file that ``dvc.yaml`` lists as a dependency of a stage.

    Args:
        stage: Name of the stage.
        root: The project's root folder.
    """
    listed = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]["deps"]
    paths = [PACKAGE / path.removeprefix("src/manyheads/") for path in listed if path.startswith("src/manyheads/")]
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    return {file.relative_to(PACKAGE).as_posix(): sha256_of(file) for file in files}


def locked_digest(root: Path, path: str) -> str:
    """Return the digest that ``dvc.lock`` has for an output, or an empty text if it has none.

    Args:
        root: The project's root folder.
        path: Path of the output relative to it.
    """
    outputs = (output for stage in _locked_stages(root).values() for output in stage.get("outs", []))
    return next((str(output.get("md5", "")) for output in outputs if output.get("path") == path), "")


def require_data_as_locked(config: Config, root: Path) -> None:
    """Refuse a pack or a split that is not the one ``dvc.lock`` describes, or was made with other settings.

    Args:
        config: The configuration that is about to be trained with.
        root: The project's root folder.

    Raises:
        IntegrityError: What does not match, and the command that mends it.
    """
    require_settings_as_locked(config, root)
    for stage in ("pack", "split"):
        for output in _locked_stages(root)[stage].get("outs", []):
            path = root / output["path"]
            if not path.exists() or md5_of(path) != output["md5"]:
                raise IntegrityError(f"{output['path']} is not what dvc.lock describes: run `dvc repro split`")


def require_settings_as_locked(config: Config, root: Path) -> None:
    """Refuse a configuration whose data, pack or split settings are not those that the data was made with.

    Raises:
        IntegrityError: Which setting differs, and the command that mends it.
    """
    stages = _locked_stages(root)
    wanted = config.model_dump(mode="json")
    for stage in ("pack", "split"):
        if stage not in stages:
            raise IntegrityError(f"dvc.lock knows no stage {stage}: run `dvc repro split` first")
        for key, locked in stages[stage].get("params", {}).get("params.yaml", {}).items():
            value: Any = wanted
            for part in key.split("."):
                value = value[part]
            if (different := _difference(key, locked, value)) is not None:
                name, was, now = different
                raise IntegrityError(
                    f"the packed data was made with {name}={was}, this asks for {name}={now}: compose the one you "
                    "want with `python -m manyheads params ...`, then `dvc repro split`"
                )


def _difference(name: str, locked: Any, wanted: Any) -> tuple[str, Any, Any] | None:
    if isinstance(locked, dict) and isinstance(wanted, dict):
        # A setting that the lock lacks has its default there.
        found = (_difference(f"{name}.{key}", locked[key], wanted.get(key)) for key in locked)
        return next((difference for difference in found if difference is not None), None)
    return None if locked == wanted else (name, locked, wanted)


def md5_of(path: Path) -> str:
    """Return the digest that DVC gives a file, or a folder by its files."""
    if path.is_dir():
        listed = [
            {"md5": md5_of(file), "relpath": file.relative_to(path).as_posix()}
            for file in sorted(path.rglob("*"))
            if file.is_file()
        ]
        listed.sort(key=lambda entry: entry["relpath"])
        return f"{hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest()}.dir"
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _locked_stages(root: Path) -> dict[str, Any]:
    try:
        return dict(yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return {}


def output_at(root: Path, path: Path, revision: str, target: Path) -> str:
    """Write an output of the pipeline as it is at a git revision, from DVC's cache.

    Args:
        root: The project's root folder.
        path: The output, below ``root``.
        revision: A branch, a tag, a commit, or the name of a DVC experiment.
        target: Where to.

    Returns:
        Why it could not be had, or an empty text.
    """
    relative = str(path.relative_to(root))
    command = [sys.executable, "-m", "dvc", "get", str(root), relative, "--rev", revision, "--out", str(target)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    return " ".join(done.stderr.split())[:200] or f"dvc get ended with status {done.returncode}"
