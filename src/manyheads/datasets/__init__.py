"""Datasets: where raw data comes from and what its names say; one module for each.

A dataset module has two functions: ``provide(target, original)`` makes the raw data be at ``target`` or says how a
person gets it, ``parse_name(path)`` reads the labels of one file. Its ``DOCUMENTATION`` is what the cards say of it.
"""

from importlib import import_module
from types import ModuleType
from typing import Literal


def get(name: Literal["sample", "utkface"]) -> ModuleType:
    """Return the module of a dataset by its configured name."""
    return import_module(f"manyheads.datasets.{name}")
