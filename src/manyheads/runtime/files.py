"""Atomic writes, JSON files and digests."""

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from manyheads.errors import IntegrityError, MachineError
from manyheads.runtime.exhaustion import remedy
from manyheads.runtime.processes import is_alive


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` to write a file or a folder to; it is renamed to ``target`` on success.

    The rename is atomic for a file. A new folder replaces an existing one. If the body raises, the unfinished file or
    folder is deleted and ``target`` is unchanged. What a killed process left unfinished is deleted at the next write of
    ``target`` on the same machine.

    Args:
        target: Path of the result. Its parent folder is created if it is missing.

    Yields:
        A path in the same folder, which does not exist yet.

    Raises:
        MachineError: The folder cannot be written to, or the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     target = Path(folder) / "new" / "table.csv"
        ...     with atomic_write(target) as unfinished:
        ...         _ = unfinished.write_text("path")
        ...     target.read_text()
        'path'
    """
    unfinished = target.with_name(f".{target.name}.{platform.node()}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        yield unfinished
        if unfinished.is_dir():
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            unfinished.replace(target)
        else:
            with unfinished.open("rb") as written:
                os.fsync(written.fileno())
            unfinished.replace(target)
    except OSError as error:
        raise MachineError(
            f"cannot write {target}: {error.strerror or error}; nothing was changed{remedy(error)}"
        ) from error
    finally:
        with suppress(OSError):  # the error of the write says more, and the next write deletes it
            _remove(unfinished)


def _remove_abandoned(target: Path) -> None:
    """Delete the unfinished files of this process, and of processes of this machine that are gone."""
    name = re.compile(re.escape(f".{target.name}.{platform.node()}.") + r"(\d+)\.tmp")
    with os.scandir(target.parent) as entries:
        found = [
            (target.parent / entry.name, int(match[1])) for entry in entries if (match := name.fullmatch(entry.name))
        ]
    for path, process in found:
        if process == os.getpid() or not is_alive(process):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8 with Unix line ends; the write is atomic."""
    with atomic_write(target) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="\n")


def read_json(path: Path, made_by: str, keys: Collection[str] = ()) -> Any:
    """Return the content of a JSON file.

    Args:
        path: The file, UTF-8.
        made_by: The command that writes the file, for the message.
        keys: Keys that the content has, if it must be a mapping.

    Raises:
        IntegrityError: The file is missing or damaged; the message says which command to run.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing: run `{made_by}`") from None
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is damaged ({error}): run `{made_by}`") from error
    if lacking := [key for key in keys if not isinstance(content, dict) or key not in content]:
        raise IntegrityError(f"{path} is damaged (it lacks {', '.join(lacking)}): run `{made_by}`")
    return content


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits, read in bounded memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_digest(value: object, digits: int) -> str:
    """Return the first hexadecimal digits of the SHA-256 of a value as JSON with sorted keys.

    Args:
        value: A JSON value: mappings with text keys, lists, texts, numbers.
        digits: Number of digits, at most 64.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:digits]
