"""Completion in the shell: commands, their options, groups and settings of ``conf/``, and names of files.

It completes the command ``manyheads``, which is the same as ``python -m manyheads``. At each press of Tab the shell
runs the command with the variable ``_ARGCOMPLETE``; see argcomplete.
"""

from __future__ import annotations

import os
import shlex
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path

import argcomplete
from argcomplete.shell_integration import shellcode

from manyheads.commands import parsers
from manyheads.config import names
from manyheads.errors import ConfigError
from manyheads.paths import project_around
from manyheads.runtime.files import write_text

SHELLS = ("bash", "zsh", "fish")

# zsh has the function that registers a completion only after this.
ZSH_FIRST = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }\n"


def install(arguments: Sequence[str]) -> None:
    """Write the completion for a shell, and have the shell read it when it starts; a second time changes nothing.

    Args:
        arguments: The name of the shell; that of the user's login shell by default.

    Raises:
        ConfigError: The shell is not known.
        MachineError: A file cannot be written.
    """
    shell = arguments[0] if arguments else Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS or len(arguments) > 1:
        raise ConfigError(f"--install-completion {' '.join(arguments) or repr(shell)}: name bash, zsh or fish")
    script = shellcode(["manyheads"], shell=shell)
    if shell == "fish":  # it reads this folder by itself
        path = _folder("XDG_CONFIG_HOME", ".config") / "fish/completions/manyheads.fish"
        _write(path, script)
    else:
        path = _folder("XDG_DATA_HOME", ".local/share") / f"manyheads/completion.{shell}"
        _write(path, ZSH_FIRST + script if shell == "zsh" else script)
        folder = Path(os.environ.get("ZDOTDIR") or Path.home()) if shell == "zsh" else Path.home()
        _add_line(folder / f".{shell}rc", f"[ -f {shlex.quote(str(path))} ] && . {shlex.quote(str(path))}")
    print(f"new {shell} shells complete `manyheads`; this one after: . {shlex.quote(str(path))}")


def _folder(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / default)


def _write(path: Path, text: str) -> None:
    if path.exists() and path.read_text(encoding="utf-8") == text:
        print(f"{path} is up to date")
        return
    write_text(path, text)
    print(f"wrote {path}")


def _add_line(path: Path, line: str) -> None:
    present = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
    if line in present.splitlines():
        print(f"{path} has the line that reads it")
        return
    with path.open("a", encoding="utf-8") as file:
        file.write(("" if not present or present.endswith("\n") else "\n") + f"{line}\n")
    print(f"added a line to {path}: {line}")


def complete(stages: Mapping[str, str], others: Mapping[str, str]) -> None:
    """Write the possible completions of the command line that the shell passes, and exit.

    Args:
        stages: The stages with their summaries.
        others: The other commands with their summaries.
    """
    root = project_around()
    parser = ArgumentParser(prog="manyheads")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--install-completion", nargs="?", choices=SHELLS)
    commands = parser.add_subparsers()
    for name, summary in stages.items():
        commands.add_parser(name, help=summary, parents=[parsers.stage(name)], add_help=False)
    for name, summary in others.items():
        commands.add_parser(name, help=summary, parents=[getattr(parsers, name)()], add_help=False)
    for command in commands.choices.values():
        for action in command._actions:
            if action.dest == "overrides":
                action.completer = lambda prefix, **_: overrides(prefix, root)  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options=False)


def overrides(prefix: str, root: Path | None) -> list[str]:
    """Return the overrides that may follow a prefix: groups with their options, and settings.

    Args:
        prefix: What is typed of the word.
        root: The project's root folder, or None outside of a project.
    """
    if root is None:
        return []
    groups = names.options_of_groups(root)
    groups = {f"+{group}" if group == "sweep" else group: options for group, options in groups.items()}
    group, has_value, value = prefix.partition("=")
    if has_value:
        # A list of options makes a sweep.
        chosen = f"{group}={value[: value.rfind(',') + 1]}"
        return [f"{chosen}{option}" for option in groups.get(group, [])]
    return [f"{name}=" for name in (*groups, *names.settings(root))]
