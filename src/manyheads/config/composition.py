"""Composition of ``conf/`` by Hydra, with errors of one line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from manyheads.config.loading import known_keys, load
from manyheads.config.schema import Config
from manyheads.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig


def compose(root: Path, overrides: Sequence[str] = (), *, from_params: bool = False) -> Config:
    """Return the settings that result from ``conf/`` or ``params.yaml`` with overrides.

    Args:
        root: The project's root folder.
        overrides: Hydra overrides, such as ``loss=age_heavy`` or ``train.epochs=3``.
        from_params: Whether to start from ``params.yaml``, as the stages of ``dvc.yaml`` do, instead of ``conf/``.

    Raises:
        ConfigError: An override or an option is unknown, or the result is not valid.
    """
    folder, name = (root, "params") if from_params else (root / "conf", "config")
    return load(_composed(folder, name, overrides), "params.yaml" if from_params else "conf/")


def compose_text(root: Path, overrides: Sequence[str] = ()) -> str:
    """Return the text of ``params.yaml`` that ``dvc exp run`` writes for these overrides; see ``compose``."""
    from omegaconf import OmegaConf

    composed = _composed(root / "conf", "config", overrides)
    load(composed, "conf/")
    return str(OmegaConf.to_yaml(composed))


def _composed(folder: Path, name: str, overrides: Sequence[str]) -> DictConfig:
    import hydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with hydra.initialize_config_dir(str(folder.resolve()), version_base="1.3"):
            composed = hydra.compose(name, overrides=list(overrides))
        OmegaConf.resolve(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise composition_error(error) from error
    return composed


def composition_error(error: Exception, known: Sequence[str] = ()) -> ConfigError:
    """Return Hydra's error about an override or an option as one line with the nearest known name.

    Args:
        error: The error that Hydra raised.
        known: Names of settings in addition to those of the schema, such as the heads' weights.
    """
    message = " ".join(str(error).split())
    if unknown := re.search(r"Could not override '([^']+)'|Key '([^']+)' is not in struct", message):
        key = unknown[1] or unknown[2]
        return ConfigError(f"unknown setting {key!r}{did_you_mean(key, [*known, *known_keys()])}")
    if option := re.search(
        r"Could not find '([^']+)/([^/']+)' Available options in '[^']+': (.*?)(?: Config search path|$)", message
    ):
        group, name, rest = option.groups()
        choices = [word for word in rest.split() if re.fullmatch(r"[a-z0-9_]+", word)]
        return ConfigError(f"{group} has no option {name!r}{did_you_mean(name, choices)} ({group}={'|'.join(choices)})")
    return ConfigError(message)
