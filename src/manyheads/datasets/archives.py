"""Reading of raw data: the files of a folder, a tar or a zip, in bounded memory, without unpacking.

An archive is untrusted input. It is rejected as a whole if a member has an unsafe path, is not a regular file, occurs
twice, or is too large.
"""

import errno
import gzip
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Never, Self, cast

from manyheads.errors import DataError, IntegrityError

MAX_MEMBERS = 2_000_000
MAX_MEMBER_BYTES = 64 * 2**20
MAX_TOTAL_BYTES = 16 * 2**30
# A tar of empty files has only headers and compresses to 1/50; zeros compress to 1/1000.
MAX_COMPRESSION_RATIO = 200
RATIO_FREE_BYTES = 16 * 2**20
# Long names and extended attributes precede a tar member; tarfile reads them into memory.
MAX_HEADER_BYTES = 2**18
MAX_GLOBAL_HEADERS = 100

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
SUPPORTED = f"a folder, {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
_REMEDY = "download it again from its publisher; nothing was unpacked"
_CHUNK = 2**16
# Searched in a path with a leading slash, which is several times faster than an alternative for the start.
_JUNK = re.compile(r"/(?:__MACOSX/|(?:\._[^/]*|\.DS_Store|Thumbs\.db|desktop\.ini)\Z)", re.IGNORECASE)
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    RecursionError,
    NotImplementedError,
)

Member = tuple[str, bytes | OSError]
Wanted = Callable[[str], bool]


def is_junk(path: str) -> bool:
    """Return whether an operating system left the file at this path of a folder or an archive."""
    return _JUNK.search("/" + path) is not None


def names(source: Path) -> Iterator[str]:
    """Yield the POSIX path of each regular file of a folder or an archive, in the order of the source.

    Args:
        source: A folder, walked in sorted order, or an archive. The paths in a folder start with its name, as they do
            in an archive of the folder.

    Raises:
        DataError: The source is missing, has no file, or is of an unknown kind.
        IntegrityError: The source is damaged, unsafe or not what its name says. The iterator raises it when it reaches
            the member, so the paths are valid only after the iterator has ended.
    """
    return (name for name, _ in selected(source, lambda _: False))


def contents(source: Path) -> Iterator[Member]:
    """Yield the paths of ``names``, each with the file's bytes or with the error of reading them.

    Only one file at a time is in memory. See ``names`` for arguments and errors.
    """
    return selected(source, lambda _: True)


def selected(source: Path, wanted: Wanted, strict: bool = True) -> Iterator[Member]:
    """Yield the paths of ``names``; only the wanted ones have the file's bytes, others have none. See ``contents``.

    Args:
        source: See ``names``.
        wanted: Called once for each path, in order.
        strict: Whether a folder is refused for a link, a pipe, a device or a file that is too large. If not, such an
            entry has an OSError in place of its bytes, wanted or not; it is not opened. Archives are always strict.
    """
    if not source.exists():
        raise DataError(f"{source} is missing: put the data there, or name another place")
    empty = True
    for member in _reader(source, wanted, strict):
        empty = False
        yield member
    if empty:
        raise DataError(f"{source} holds no files: put the data there, or name another place")


def _reader(source: Path, read: Wanted, strict: bool) -> Iterator[Member]:
    name = source.name.lower()
    if source.is_dir():
        return _folder(source, read, strict)
    if not source.is_file():
        raise DataError(f"{source} is neither a file nor a folder: name {SUPPORTED}")
    if name.endswith((".tar.gz", ".tgz")):
        return _unique(source, _tar(source, read, compressed=True))
    if name.endswith(".tar"):
        return _unique(source, _tar(source, read, compressed=False))
    if name.endswith((".zip", ".whl")):  # a package of Python is a zip
        return _unique(source, _zip(source, read))
    raise DataError(f"{source} is of an unknown kind: name {SUPPORTED}")


def _unique(source: Path, members: Iterator[Member]) -> Iterator[Member]:
    seen: set[str] = set()
    for member in members:
        if member[0] in seen:
            _refuse(source, member[0], "occurs twice")
        seen.add(member[0])
        yield member


def _folder(source: Path, read: Wanted, strict: bool) -> Iterator[Member]:
    # A list of names takes less memory than directory entries: a million entries take half a gigabyte.
    pending = [(source.name or source.absolute().name, source)]
    while pending:
        prefix, folder = pending.pop()
        files: list[str] = []
        folders: list[str] = []
        special: dict[str, OSError] = {}
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False):
                        files.append(entry.name)
                    elif entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
                    else:
                        kind = "a symbolic link" if entry.is_symlink() else "neither a file nor a folder"
                        if strict:
                            raise IntegrityError(f"{source}: {entry.path!r} is {kind}: put a regular file in its place")
                        special[entry.name] = OSError(errno.EINVAL, f"{kind}, which is not read")
                        files.append(entry.name)
        except OSError as error:
            raise DataError(f"{folder} cannot be read: {error.strerror or error}") from error
        for name in sorted(files):
            path = f"{prefix}/{name}"
            data = read_file(folder / name) if read(path) and name not in special else b""
            if strict and isinstance(data, OSError) and data.errno == errno.EFBIG:
                _refuse(source, str(folder / name), str(data.strerror))
            yield path, special.get(name, data)
        pending += [(f"{prefix}/{name}", folder / name) for name in sorted(folders, reverse=True)]


def read_file(path: Path) -> bytes | OSError:
    """Return the bytes of a regular file, or the error of reading them, such as EFBIG over ``MAX_MEMBER_BYTES``."""
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return OSError(errno.EINVAL, "neither a file nor a folder, which is not read")
            data = file.read(MAX_MEMBER_BYTES + 1) if status.st_size <= MAX_MEMBER_BYTES else b""
    except OSError as error:
        return error
    if max(len(data), status.st_size) > MAX_MEMBER_BYTES:
        return OSError(errno.EFBIG, f"is larger than {_mebibytes(MAX_MEMBER_BYTES)}")
    return data


class _StrictHeader(tarfile.TarInfo):
    """A tar header that ends the archive only if it is the end mark. Tarfile takes any damaged header for the end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        """Return the next header of ``archive``; raise ReadError if there is neither a header nor the end mark."""
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"no end mark: {error}") from error


class _Metered:
    """A tar stream that limits each read to the expected size, and all reads to the limits of an archive."""

    def __init__(self, source: Path, file: IO[bytes], stream: IO[bytes]) -> None:
        self.source = source
        self.file = file
        self.stream = stream
        self.total = 0
        self.allowed = 0
        self.expect(0)

    def expect(self, size: int) -> None:
        """Allow reads of ``size`` bytes, one more header, and the read-ahead of tarfile."""
        self.allowed = self.total + size + MAX_HEADER_BYTES + 2 * _CHUNK

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.total += len(data)
        if self.total > self.allowed:
            raise IntegrityError(f"{self.source}: a tar header is larger than {MAX_HEADER_BYTES} bytes: {_REMEDY}")
        _check_total(self.source, self.total, self.file.tell())
        return data


def _tar(source: Path, read: Wanted, compressed: bool) -> Iterator[Member]:
    with _opened(source, "gzip" if compressed else "tar") as file:
        # Tarfile's own gzip stream does not verify the checksum.
        stream: IO[bytes] = gzip.GzipFile(fileobj=file) if compressed else file  # type: ignore[assignment]
        metered = _Metered(source, file, stream)
        archive = tarfile.open(  # noqa: SIM115  (closing would hide the error that ended the reading)
            fileobj=cast(IO[bytes], metered),
            mode="r|",
            bufsize=_CHUNK,
            tarinfo=_StrictHeader,
            encoding="utf-8",
            errors="surrogateescape",
        )
        count = 0
        while (member := archive.next()) is not None:
            count += 1
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps all headers in memory
            path = _checked_path(source, member.name)
            if count > MAX_MEMBERS:
                _refuse(source, path, f"is one more than the {MAX_MEMBERS} members that are read")
            if len(archive.pax_headers) > MAX_GLOBAL_HEADERS:
                _refuse(source, path, f"has more than {MAX_GLOBAL_HEADERS} global headers")
            if member.isdir():
                metered.expect(0)
                continue
            if not member.isreg() or member.issparse():
                _refuse(source, path, f"is {_tar_kind(member)}, not a regular file")
            _check_size(source, path, member.size)
            metered.expect(member.size)
            data = archive.extractfile(member) if read(path) else None
            yield path, data.read() if data else b""
        _check_rest(source, metered, archive)


def _check_rest(source: Path, metered: _Metered, archive: tarfile.TarFile) -> None:
    # Gzip verifies the checksum at the end of the stream.
    while True:
        metered.expect(_CHUNK)
        rest: bytes = archive.fileobj.read(_CHUNK) if archive.fileobj else b""
        if not rest:
            return
        if rest.strip(b"\0"):
            raise IntegrityError(f"{source}: data follows the end of the archive: {_REMEDY}")


def _tar_kind(member: tarfile.TarInfo) -> str:
    if member.issym():
        return "a symbolic link"
    if member.islnk():
        return "a hard link"
    return "a sparse file" if member.issparse() else "a device, a pipe or another special file"


def _zip(source: Path, read: Wanted) -> Iterator[Member]:
    with _opened(source, "zip") as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        announced = _zip_count(file, len(archive.comment))
        if len(members) != announced:
            raise zipfile.BadZipFile(f"{len(members)} members are found where {announced} are announced")
        if len(members) > MAX_MEMBERS:
            raise IntegrityError(f"{source} has {len(members)} members, more than {MAX_MEMBERS}: {_REMEDY}")
        total = 0
        for member in members:
            _check_zip_member(source, member)
            total += member.file_size
        _check_total(source, total, source.stat().st_size)
        for member in members:
            if not member.orig_filename.endswith("/"):
                path = _checked_path(source, member.orig_filename)
                yield path, archive.read(member) if read(path) else b""


def _zip_count(file: IO[bytes], comment_size: int) -> int:
    """Return the number of members that the end record of a zip announces. Zipfile does not verify it."""
    end_size, locator_size, end64_size = 22, 20, 56
    file.seek(-end_size - comment_size, os.SEEK_END)
    end = file.read(end_size)
    if not end.startswith(b"PK\x05\x06"):
        raise zipfile.BadZipFile("data follows the end of the archive")
    (count,) = struct.unpack_from("<H", end, 10)
    if count == 0xFFFF:
        file.seek(-end_size - comment_size - locator_size - end64_size, os.SEEK_END)
        signature, count = struct.unpack_from("<4s28xQ", file.read(end64_size))
        if signature != b"PK\x06\x06":
            return 0xFFFF
    return int(count)


def _check_zip_member(source: Path, member: zipfile.ZipInfo) -> None:
    # Zipfile cuts `filename` at a NUL and translates it on Windows; `orig_filename` is the same everywhere.
    path = _checked_path(source, member.orig_filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a symbolic link" if kind == stat.S_IFLNK else "a device, a pipe or another special file"
        _refuse(source, path, f"is {what}, not a regular file")
    if member.flag_bits & 0x1:
        _refuse(source, path, "is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        _refuse(source, path, "is compressed by a method other than stored or deflated")
    _check_size(source, path, member.file_size)


@contextmanager
def _opened(source: Path, kind: str) -> Iterator[IO[bytes]]:
    try:
        file = source.open("rb")
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or error}") from error
    with file:
        _sniff(source, file, kind)
        try:
            yield file
        except _DAMAGE as error:
            raise IntegrityError(f"{source} is truncated or damaged ({error}): {_REMEDY}") from error


def _sniff(source: Path, file: IO[bytes], kind: str) -> None:
    start = file.read(512)
    file.seek(0)
    if not start:
        raise DataError(f"{source} is an empty file: put the data there, or name another place")
    if re.match(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body|\?xml|!--)", start, re.IGNORECASE):
        raise IntegrityError(f"{source} looks like HTML, not {kind}, and starts with {start[:60]!r}: {_REMEDY}")
    # A tar has no magic number at its start; tarfile verifies the checksum of its first header.
    magic = {"gzip": (b"\x1f\x8b",), "zip": (b"PK\x03\x04", b"PK\x05\x06"), "tar": (b"",)}[kind]
    if not start.startswith(magic):
        raise IntegrityError(f"{source} is not {kind}, it starts with {start[:16]!r}: {_REMEDY}")


def _checked_path(source: Path, name: str) -> str:
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[/\\]", name):
        _refuse(source, name, "has an absolute path")
    if ".." in name and ".." in re.split(r"[/\\]", name):
        _refuse(source, name, "has a path with '..'")
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _check_size(source: Path, path: str, size: int) -> None:
    if not 0 <= size <= MAX_MEMBER_BYTES:
        _refuse(source, path, f"has {size} bytes, more than {_mebibytes(MAX_MEMBER_BYTES)}")


def _check_total(source: Path, total: int, packed: int) -> None:
    if total > MAX_TOTAL_BYTES:
        raise IntegrityError(f"{source} unpacks to more than {_mebibytes(MAX_TOTAL_BYTES)}: {_REMEDY}")
    if total > RATIO_FREE_BYTES and total > MAX_COMPRESSION_RATIO * packed:
        raise IntegrityError(f"{source} unpacks to more than {MAX_COMPRESSION_RATIO} times its size: {_REMEDY}")


def _mebibytes(size: int) -> str:
    return f"{size // 2**20} MiB"


def _refuse(source: Path, name: str, why: str) -> Never:
    raise IntegrityError(f"{source}: {name!r} {why}: {_REMEDY}")
