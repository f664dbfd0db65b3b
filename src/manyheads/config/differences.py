"""How a configuration differs from the default, as the overrides that make it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manyheads.config.composition import compose
from manyheads.config.schema import Config
from manyheads.errors import ConfigError

GROUPS_WITH_DATA = ("data", "experiment")
"""Groups whose options choose a dataset."""


def differences(config: Config, root: Path) -> tuple[str, ...]:
    """Return overrides such as ``loss=age_heavy`` that make a configuration from the default of its data.

    The default is the composition of ``conf/`` or, for other data, that with the option of a group that comes nearest.

    Args:
        config: The configuration.
        root: The project's root folder.
    """
    chosen, default = _nearest(config, root)
    if config.loss.name != default.loss.name and (root / "conf/loss" / f"{config.loss.name}.yaml").is_file():
        try:
            default = compose(root, [*chosen, f"loss={config.loss.name}"])
            chosen = [*chosen, f"loss={config.loss.name}"]
        except ConfigError:  # the option is for other heads
            pass
    return (*chosen, *_leaves(config, default))


def _nearest(config: Config, root: Path) -> tuple[list[str], Config]:
    default = compose(root)
    found: list[tuple[list[str], Config]] = [([], default)]
    if config.data != default.data:
        for group in GROUPS_WITH_DATA:
            for option in sorted((root / "conf" / group).glob("*.yaml")):
                try:
                    found.append(([f"{group}={option.stem}"], compose(root, [f"{group}={option.stem}"])))
                except ConfigError:  # the option needs another one beside it
                    continue
    return min(found, key=lambda each: (each[1].data.title != config.data.title, len(_leaves(config, each[1]))))


def _leaves(config: Config, default: Config) -> list[str]:
    wanted, known = (_flat(each.model_dump(mode="json")) for each in (config, default))
    return [f"{key}={value}" for key, value in wanted.items() if known.get(key) != value]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat
