"""Validation of a composed configuration, with errors of one line that name the nearest known key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from manyheads.config import yaml_files
from manyheads.config.schema import Config
from manyheads.encoders import ENCODERS
from manyheads.encoders.base import Encoder
from manyheads.errors import ConfigError, did_you_mean


class MisfitError(ConfigError):
    """An option does not fit the heads or the inputs.

    Attributes:
        group: The option's group, in which another option may fit.
    """

    def __init__(self, message: str, group: str) -> None:
        super().__init__(message)
        self.group = group


def load(values: Any, source: str = "the configuration") -> Config:
    """Validate a composed configuration.

    Args:
        values: An OmegaConf configuration or plain nested dictionaries.
        source: Where the values come from, for messages.

    Returns:
        The typed configuration, frozen.

    Raises:
        ConfigError: The values are not valid. The message has up to three problems in one line.
        MisfitError: The same, and it is an option that does not fit the data.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if OmegaConf.is_list(values):
        raise ConfigError(f"{source}: it holds a list, no settings: write it with `python -m manyheads params`")
    try:
        if OmegaConf.is_config(values):
            # Hydra adds its own settings when it composes a sweep.
            own = OmegaConf.masked_copy(values, [key for key in values if key != "hydra"])
            values = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
        prefixes = values.get("extensions") or () if isinstance(values, Mapping) else ()
        return Config.model_validate(values, context={"extensions": prefixes})
    except OmegaConfBaseException as error:
        raise ConfigError(f"{source}: {str(error).splitlines()[0]}") from error
    except ValidationError as error:
        # An unknown key is often a misspelt missing key, so unknown keys come first.
        found = sorted(error.errors(include_url=False), key=lambda details: details["type"] != "extra_forbidden")
        problems = list(dict.fromkeys(_problem(dict(details), values) for details in found))
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        message = f"{source}: {'; '.join(problems[:3])}{more}"
        if misfits := [details["ctx"]["group"] for details in found if details["type"] == "misfit"]:
            raise MisfitError(message, misfits[0]) from None
        raise ConfigError(message) from None


def _problem(details: dict[str, Any], values: Any) -> str:
    # Pydantic adds the chosen member of a union to the location; the configuration has no such level.
    key = ".".join(str(part) for part in _written_location(details, values))
    if details["type"] == "extra_forbidden":
        known = known_keys()
        return _of_another_encoder(values) if key in known else f"unknown key {key!r}{did_you_mean(key, known)}"
    if details["type"] == "missing":
        return f"{key!r} is missing"
    message = details["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    shown = "" if isinstance(details["input"], dict) else f", got {details['input']!r}"
    return f"{key!r}: {message}{shown}" if key else message


def _of_another_encoder(values: Mapping[str, Any]) -> str:
    """Return the problem of settings of ``model`` that only other encoders have."""
    chosen = values["model"]
    own = ENCODERS[chosen["encoder"]].model_fields
    return (
        f"encoder {chosen['encoder']!r} has no {', '.join(key for key in chosen if key not in own)}: choose an option "
        f"of model that has this encoder, or give its own settings, {', '.join(key for key in own if key != 'encoder')}"
    )


def _written_location(details: dict[str, Any], values: Any) -> list[int | str]:
    written: list[int | str] = []
    for position, part in enumerate(details["loc"], start=1):
        missing = details["type"] == "missing" and position == len(details["loc"])
        if isinstance(values, Mapping):
            if part not in values and not missing:
                continue
            values = values.get(str(part))
        written.append(part)
    return written


def known_keys() -> list[str]:
    """Return the dotted names of all settings in the schema, without keys of dictionaries."""

    def walk(model: type[BaseModel], prefix: str) -> list[str]:
        keys = []
        for name, field in model.model_fields.items():
            keys.append(prefix + name)
            members = ENCODERS.values() if field.annotation is Encoder else (field.annotation,)
            for member in members:
                if isinstance(member, type) and issubclass(member, BaseModel):
                    keys += walk(member, f"{prefix}{name}.")
        return list(dict.fromkeys(keys))

    return walk(Config, "")


def read_params(path: Path) -> Config:
    """Read and validate ``params.yaml`` or another composed configuration.

    Raises:
        ConfigError: The file is missing, is not YAML, or is not valid.
    """
    try:
        return load(yaml_files.read(path), path.name)
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: write it with `python -m manyheads params`") from None
