"""What a user's own Python files add: datasets, encoders, kinds of heads.

A reference is ``package.module:Name``. Importing runs code, so only what lies below a prefix that the configuration
lists under ``extensions`` is imported; anything else is refused before it is looked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationInfo

from manyheads.errors import ConfigError


def load(reference: str, prefixes: Sequence[str]) -> Any:
    """Import what a reference names.

    Args:
        reference: ``package.module:Name``.
        prefixes: Packages that may be imported from: ``extensions`` of the configuration.

    Raises:
        ConfigError: The reference is no such text, lies below none of the prefixes, or cannot be imported.
    """
    module, _, name = reference.partition(":")
    if not module or not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ConfigError(f"{reference!r} is no reference such as 'extensions.wine:Wine'")
    if not any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes):
        listed = ", ".join(prefixes) or "nothing"
        raise ConfigError(
            f"{reference!r} is not imported: 'extensions' lists {listed}; add its package if you trust it"
        )
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{reference!r} cannot be imported: {error}") from error


def chosen(
    values: Any, key: str, built_in: Mapping[str, type[BaseModel]], base: type[BaseModel], info: ValidationInfo
) -> Any:
    """Return a validated member of a family of configured classes; for pydantic's plain validators.

    Args:
        values: The section; what is already an instance is returned as it is.
        key: The field that names the class, such as ``kind``.
        built_in: The project's own classes by name.
        base: What an extension's class must be derived from.
        info: Its context has the prefixes under ``extensions``.
    """
    if isinstance(values, base):
        return values
    if not isinstance(values, Mapping) or key not in values:
        raise ValueError(f"{key} is missing: it is one of {', '.join(built_in)}, or a reference to one of your own")
    name = values[key]
    if ":" not in str(name):
        if name not in built_in:
            raise ValueError(
                f"{key} is {name!r}: it is one of {', '.join(built_in)}, or a reference to one of your own"
            )
        return built_in[name].model_validate(dict(values), context=info.context)
    try:
        loaded = load(str(name), (info.context or {}).get("extensions", ()))
    except ConfigError as error:
        raise ValueError(str(error)) from error
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        raise ValueError(f"{key} is {name!r}, which is no {base.__name__}")
    return loaded.model_validate(dict(values), context=info.context)
