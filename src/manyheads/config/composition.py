"""TODO manyheads.config.composition."""
from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from manyheads.config.loading import did_you_mean, known_keys, load
from manyheads.errors import ConfigError


def compose(root: Path, overrides: Sequence[str] = ()) -> str:
    """Compose ``conf/`` as ``dvc exp run`` does and return the text that it would write to ``params.yaml``.

    Args:
        root: The project's root folder.
        overrides: Hydra overrides, such as ``loss=age_heavy`` or ``train.epochs=3``.

    Raises:
        ConfigError: An override or an option is unknown, or the result is not valid.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with hydra.initialize_config_dir(str(root / "conf"), version_base="1.3"):
            composed = hydra.compose("config", overrides=list(overrides))
        OmegaConf.resolve(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise composition_error(error) from error
    load(composed, "conf/")
    return str(OmegaConf.to_yaml(composed))


def composition_error(error: Exception, known: Sequence[str] = ()) -> ConfigError:
    """Return Hydra's complaint about an override or an option as one line with the nearest known name.

    Args:
        error: What Hydra raised.
        known: Names of settings beside those of the schema, such as the heads' weights.
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
