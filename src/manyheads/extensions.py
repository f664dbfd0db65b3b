"""Discovery of heads, inputs, encoders and datasets: built-in ones and those of a user's own Python files.

A built-in member is found in the modules of its family's package, so a new member is one new file. A reference,
``package.module:Name``, names a member in a user's own code. Importing a module runs its code, so only modules below a
prefix that the configuration lists under ``extensions`` are imported.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from pydantic import BaseModel, PlainValidator, ValidationInfo

from manyheads.errors import ConfigError


def modules(package: str) -> Iterator[ModuleType]:
    """Import and yield the modules directly in a package, sorted by name, without its subpackages."""
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        if not found.ispkg:
            yield importlib.import_module(found.name)


def built_in_classes(package: str, base: type[BaseModel], key: str) -> dict[str, Any]:
    """Return the classes of a family by name.

    A member is a subclass of ``base`` in a module directly in the package. Its name is the default of the field
    ``key``. An abstract subclass has no such default.

    Args:
        package: Name of the package, such as ``manyheads.heads``.
        base: The family's base class.
        key: The field that names the class, such as ``kind``.

    Raises:
        ValueError: Two classes have the same name.
    """
    found: dict[str, type[BaseModel]] = {}
    for module in modules(package):
        for value in vars(module).values():
            if not (isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__):
                continue
            field = value.model_fields.get(key)
            if field is None or field.is_required():
                continue
            other = found.setdefault(field.default, value)
            if other is not value:
                raise ValueError(f"{key} {field.default!r} is the name of {other.__name__} and of {value.__name__}")
    return found


def built_in_objects(name: str, *packages: str) -> dict[str, Any]:
    """Return the objects that modules directly in the packages define as ``name``, by the module's last name.

    Args:
        name: Name of the objects, such as ``DATASET``.
        packages: Names of packages, such as ``manyheads.datasets``.

    Raises:
        ValueError: Two modules have the same name.
    """
    found: dict[str, Any] = {}
    for package in packages:
        for module in modules(package):
            if hasattr(module, name):
                short = module.__name__.rpartition(".")[2]
                if short in found:
                    raise ValueError(f"two modules named {short} define {name}")
                found[short] = getattr(module, name)
    return found


def load(reference: str, prefixes: Sequence[str]) -> Any:
    """Import the object that a reference names.

    Args:
        reference: ``package.module:Name``.
        prefixes: Packages that may be imported from, ``extensions`` of the configuration.

    Raises:
        ConfigError: The reference is malformed, is below none of the prefixes, or cannot be imported.

    Example:
        >>> load("collections.abc:Mapping", prefixes=["collections"])
        <class 'collections.abc.Mapping'>
    """
    module, _, name = reference.partition(":")
    if not module or not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ConfigError(f"{reference!r} is not a reference such as 'extensions.wine:Wine'")
    if not any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes):
        listed = ", ".join(prefixes) or "nothing"
        raise ConfigError(
            f"{reference!r} is not imported: 'extensions' lists {listed}; add its package if you trust it"
        )
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{reference!r} cannot be imported: {error}") from error


def member_of(family: Mapping[str, type[BaseModel]], base: type[BaseModel], key: str) -> PlainValidator:
    """Return the pydantic validator of a field that holds a member of a family.

    The validator takes a mapping whose ``key`` is the name of a built-in class or a reference to a user's own class. It
    returns an instance of that class. An instance is returned unchanged. The validation context lists the prefixes that
    references may import from, under ``extensions``.

    Args:
        family: The built-in classes by name.
        base: The base class that a user's own class must extend.
        key: The field that names the class, such as ``kind``.
    """
    known = f"it is one of {', '.join(family)}, or a reference to one of your own"

    def validated(values: Any, info: ValidationInfo) -> Any:
        if isinstance(values, base):
            return values
        if not isinstance(values, Mapping) or key not in values:
            raise ValueError(f"{key} is missing: {known}")
        name = values[key]
        if ":" not in str(name):
            if name not in family:
                raise ValueError(f"{key} is {name!r}: {known}")
            return family[name].model_validate(dict(values), context=info.context)
        try:
            loaded = load(str(name), (info.context or {}).get("extensions", ()))
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if not (isinstance(loaded, type) and issubclass(loaded, base)):
            raise ValueError(f"{key} is {name!r}, which is not a subclass of {base.__name__}")
        return loaded.model_validate(dict(values), context=info.context)

    return PlainValidator(validated)
