"""Composition of ``conf/`` by Hydra, with errors of one line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manyheads.config import yaml_files
from manyheads.config.loading import MisfitError, known_keys, load
from manyheads.config.schema import Config
from manyheads.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

_OF_A_HEAD = re.compile(r"(?P<section>loss\.(?:weights|functions))\.(?P<head>\w+)=")


def compose(root: Path, overrides: Sequence[str] = (), *, from_params: bool = False) -> Config:
    """Return the settings that result from ``conf/`` or ``params.yaml`` with overrides.

    Args:
        root: The project's root folder.
        overrides: Hydra overrides, such as ``loss=age_heavy`` or ``train.epochs=3``.
        from_params: Whether to start from ``params.yaml``, as the stages of ``dvc.yaml`` do, instead of ``conf/``.

    Raises:
        ConfigError: An override or an option is unknown, or the result is not valid.
    """
    if from_params:
        return load(_composed(root, "params", overrides), "params.yaml")
    return _load(root, _composed(root / "conf", "config", overrides), overrides)


def compose_text(root: Path, overrides: Sequence[str] = ()) -> str:
    """Return the text of ``params.yaml`` that ``dvc exp run`` writes for these overrides; see ``compose``."""
    from omegaconf import OmegaConf

    composed = _composed(root / "conf", "config", overrides)
    _load(root, composed, overrides)
    return str(OmegaConf.to_yaml(composed))


def _load(root: Path, composed: DictConfig, overrides: Sequence[str]) -> Config:
    try:
        return load(composed, "conf/")
    except MisfitError as error:
        fitting = ", ".join(f"{error.group}={option}" for option in _fitting(root, error.group, overrides))
        raise ConfigError(f"{error}; what fits: {fitting or 'no option'}") from error


def _fitting(root: Path, group: str, overrides: Sequence[str]) -> Iterator[str]:
    """Yield the options of a group that are valid with the other overrides."""
    others = [override for override in overrides if not re.match(rf"\+*{group}[.=]", override)]
    for option in sorted((root / "conf" / group).glob("*.yaml")):
        with suppress(ConfigError):
            load(_composed(root / "conf", "config", [*others, f"{group}={option.stem}"]))
            yield option.stem


def option_with_data(root: Path) -> str | None:
    """Return the option that chooses the data of ``params.yaml``, such as ``data=wine``; None if it is the default.

    ``dvc exp run`` composes ``conf/`` anew, and without the option it would take the default data. It is None, too, if
    no option has the data.

    Args:
        root: The project's root folder.
    """
    from omegaconf import OmegaConf

    def value_in(file: Path, key: str) -> Any:
        return OmegaConf.select(yaml_files.read(file), key) if file.exists() else None

    wanted = value_in(root / "params.yaml", "data.path")
    defaults = value_in(root / "conf/config.yaml", "defaults") or []
    chosen = next((each["data"] for each in defaults if "data" in each), None)
    for group in ("data", "experiment"):
        for file in sorted((root / "conf" / group).glob("*.yaml")):
            if wanted and value_in(file, "data.path") == wanted:
                return None if (group, file.stem) == ("data", chosen) else f"{group}={file.stem}"
    return None


def as_hydra_takes(root: Path, overrides: Sequence[str]) -> list[str]:
    """Return overrides of ``conf/`` as Hydra, and so ``dvc exp run``, takes them; see ``adding_heads``.

    Raises:
        ConfigError: An override or an option is unknown.
    """
    return _composed_as(root / "conf", "config", overrides)[1]


def adding_heads(
    overrides: Sequence[str], composing: Callable[[list[str]], DictConfig]
) -> tuple[DictConfig, list[str]]:
    """Compose with overrides, of which some may set the loss or the weight of a head that the option does not name.

    Hydra takes a key that an option lacks only with ``++``: ``loss.weights.quality=2`` after ``loss=age_heavy``, but
    ``++loss.weights.quality=2`` after ``loss=default``, which fits any heads.

    Args:
        overrides: Hydra overrides.
        composing: Returns the composition of overrides.

    Returns:
        The composition, and the overrides with ``++`` where it is needed.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        return composing(list(overrides)), list(overrides)
    except (HydraException, OmegaConfBaseException):
        heads = [_OF_A_HEAD.match(override) for override in overrides]
        added = [f"++{text}" if found else text for text, found in zip(overrides, heads, strict=True)]
        if not any(heads):
            raise
        with suppress(HydraException, OmegaConfBaseException):
            composed = composing(added)
            for found in filter(None, heads):
                if found["head"] not in composed.data.heads:
                    known = [f"{found['section']}.{head}" for head in composed.data.heads]
                    key = found[0].removesuffix("=")
                    raise ConfigError(f"unknown setting {key!r}{did_you_mean(key, known)}") from None
            return composed, added
        raise


def _composed(folder: Path, name: str, overrides: Sequence[str]) -> DictConfig:
    return _composed_as(folder, name, overrides)[0]


def _composed_as(folder: Path, name: str, overrides: Sequence[str]) -> tuple[DictConfig, list[str]]:
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.singleton import Singleton
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    require_names(overrides)
    files = config_files(folder) if name == "config" else [folder / f"{name}.yaml"]
    yaml_files.require_plain(files)
    # A training that Hydra runs composes the default beside its own settings; Hydra allows one composition at a time.
    outer = Singleton.get_state() if GlobalHydra.instance().is_initialized() else None
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(folder.resolve()), version_base="1.3"):
            composed, taken = adding_heads(overrides, lambda each: hydra.compose(name, overrides=each))
        OmegaConf.resolve(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise composition_error(error) from error
    except (YAMLError, ValueError, TypeError) as error:
        for file in files:  # Hydra does not say which it is
            yaml_files.read(file)
        refuse_null(error, overrides)
        raise
    finally:
        if outer is not None:
            Singleton.set_state(outer)
    return composed, taken


def require_names(overrides: Sequence[str]) -> None:
    """Raise an error for an override without a name, which Hydra answers with a traceback.

    Raises:
        ConfigError: An override is empty or begins with its value.
    """
    for override in overrides:
        if re.match(r"[+~]*(=|$)", override):
            raise ConfigError(f"{override!r} names no setting: write section.key=value or group=option")


def refuse_null(error: Exception, overrides: Sequence[str]) -> None:
    """Raise Hydra's error about a group that is set to null as one line; nothing happens for another error.

    Args:
        error: The error that Hydra raised.
        overrides: The overrides of the composition.

    Raises:
        ConfigError: The error is about such a group.
    """
    if str(error).startswith("Config group override must be a string"):
        groups = [each for each in overrides if "." not in each and "null" in re.split("[=,]", each)[1:]]
        raise ConfigError(f"{' '.join(groups)}: a group has no option null: name one, or leave it out") from error


def config_files(folder: Path) -> list[Path]:
    """Return all files of ``conf/``, any of which Hydra may read."""
    return sorted(folder.resolve().rglob("*.yaml"))


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
