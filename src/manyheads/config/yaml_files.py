"""A check of YAML files before OmegaConf, Hydra or PyYAML reads them.

A file of a few hundred bytes can hold aliases that expand to billions of nodes, and the tag of a node can name a Python
object. The check reads events, from which nothing is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from manyheads.errors import ConfigError

MAX_BYTES = 2**20
MAX_NODES = 50_000
"""Largest number of nodes with aliases expanded."""

MAX_DEPTH = 50

_PLAIN = ("str", "int", "float", "bool", "null", "seq", "map", "merge")
# YAML 1.1 reads numbers to the bases 2, 8, 16 and 60, and four more words for truth. Hydra takes them for texts.
_SURPRISING = re.compile(
    r"[-+]?0(?:[0-7_]+|b[01_]+|x[0-9a-f_]+)|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?|yes|no|on|off",
    re.IGNORECASE,
)
_TAGS = {None, "!", *(f"tag:yaml.org,2002:{name}" for name in _PLAIN)}


@dataclass
class _Collection:
    anchor: str | None
    is_mapping: bool
    nodes: int = 1
    children: int = 0
    keys: set[str] = field(default_factory=set)


def read(path: Path) -> Any:
    """Return the OmegaConf configuration of a file.

    Raises:
        ConfigError: The file is not plain YAML; see ``require_plain``.
        FileNotFoundError: The file is missing.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    require_plain([path])
    try:
        return OmegaConf.load(path)
    except FileNotFoundError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, OSError, OmegaConfBaseException) as error:
        # Such as a mapping as a key, a date without such a day, or an interpolation that does not end.
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None


def require_plain(paths: Iterable[Path]) -> None:
    """Raise an error for a file that is not plain YAML of a reasonable size; a file that is missing is left to others.

    Raises:
        ConfigError: A file is too large, is not UTF-8 or not YAML, has a key twice, a tag that is not plain, or aliases
            that expand to too much. The message names the file and the line.
    """
    here = Path.cwd()
    for path in paths:
        if path.is_file():
            _require_plain(path.relative_to(here) if path.is_relative_to(here) else path)


def _require_plain(path: Path) -> None:
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES // 2**10} KiB, which no settings are")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: a byte is not UTF-8: save the file as UTF-8") from None
    try:
        _check_events(path, yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}" if mark else f"{path}"
        raise ConfigError(f"{where}: it is not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def _check_events(path: Path, events: Iterable[yaml.Event]) -> None:
    sizes: dict[str, int] = {}
    open_collections: list[_Collection] = []
    for event in events:
        where = f"{path}, line {event.start_mark.line + 1 if event.start_mark else '?'}"
        if isinstance(event, yaml.CollectionEndEvent):
            closed = open_collections.pop()
            nodes, anchor = closed.nodes, closed.anchor
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ConfigError(f"{where}: the alias *{event.anchor} has no anchor before it, or is inside of it")
            nodes, anchor = sizes[event.anchor], None
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            if event.tag not in _TAGS:
                tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
                raise ConfigError(f"{where}: the tag {tag} is not allowed: settings are plain values")
            if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and _SURPRISING.fullmatch(event.value):
                raise ConfigError(
                    f"{where}: {event.value} is another value here than on a command line: write a decimal number, "
                    "true or false, or put a text between quotes"
                )
            nodes, anchor = 1, event.anchor
        else:
            continue
        if isinstance(event, yaml.NodeEvent):  # the start of a child
            _count_child(where, open_collections, event)
        if isinstance(event, yaml.CollectionStartEvent):
            open_collections.append(_Collection(event.anchor, isinstance(event, yaml.MappingStartEvent)))
            if len(open_collections) > MAX_DEPTH:
                raise ConfigError(f"{where}: values are nested more than {MAX_DEPTH} deep")
            continue
        if anchor:
            sizes[anchor] = nodes
        if open_collections:
            open_collections[-1].nodes += nodes
        if sum(each.nodes for each in open_collections) > MAX_NODES:
            raise ConfigError(f"{where}: aliases and values expand to more than {MAX_NODES:,} values")


def _count_child(where: str, open_collections: list[_Collection], event: yaml.NodeEvent) -> None:
    if not open_collections:
        return
    parent = open_collections[-1]
    is_key = parent.is_mapping and parent.children % 2 == 0
    parent.children += 1
    if is_key and isinstance(event, yaml.ScalarEvent):
        if event.value in parent.keys:
            raise ConfigError(f"{where}: the key {event.value!r} stands twice: keep one of them")
        parent.keys.add(event.value)
