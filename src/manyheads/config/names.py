"""Names that a command line may have: groups, their options, and settings; read from the files alone.

Nothing is composed or validated, because help and completion in a shell need the names within a moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def options_of_groups(root: Path) -> dict[str, list[str]]:
    """Return the options of each group of ``conf/``, both sorted.

    Args:
        root: The project's root folder.
    """
    folders = sorted(path for path in (root / "conf").iterdir() if path.is_dir())
    return {folder.name: sorted(option.stem for option in folder.glob("*.yaml")) for folder in folders}


def settings(root: Path) -> list[str]:
    """Return the dotted names of the settings in ``params.yaml``, such as ``train.epochs``; none if it is missing.

    Args:
        root: The project's root folder.
    """
    import yaml

    try:
        values = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    return list(_dotted(values)) if isinstance(values, Mapping) else []


def _dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
