"""Writing files so that they appear whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from manyheads.errors import IntegrityError, MachineError


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` to write a file or a folder to; it takes the target's name on success.

    The rename is atomic for a file. A folder that stands at the target is replaced by the new one. When the body
    raises, what was written is removed and the target stays as it was.

    Args:
        target: The path that the result gets. Its parent folder is made if it is missing.

    Yields:
        A path in the same folder; nothing exists there yet.

    Raises:
        MachineError: The folder cannot be written to, or the disk is full.
    """
    aside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(aside)
        yield aside
        if aside.is_dir():
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            aside.replace(target)
        else:
            with aside.open("rb") as written:
                os.fsync(written.fileno())
            aside.replace(target)
    except OSError as error:
        raise MachineError(f"cannot write {target}: {error.strerror or error}; nothing was changed") from error
    finally:
        _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8 with Unix line ends, aside and renamed."""
    with atomic_write(target) as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")


def read_json(path: Path, made_by: str) -> Any:
    """Return what a JSON file holds.

    Args:
        path: The file, UTF-8.
        made_by: The command that writes it, for the message.

    Raises:
        IntegrityError: The file is missing or damaged; the message says which command to run.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing: run `{made_by}`") from None
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged ({error}): run `{made_by}`") from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits, read in bounded memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_digest(value: object, digits: int) -> str:
    """Return the first hexadecimal digits of the SHA-256 of a value as JSON with sorted keys.

    Args:
        value: What JSON can hold: mappings with text keys, lists, texts, numbers.
        digits: How many digits, at most 64.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:digits]
