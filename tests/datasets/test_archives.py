import gzip
import io
import os
import random
import socket
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from manyheads.datasets import archives
from manyheads.errors import DataError, IntegrityError, ManyheadsError
from real import ARCHIVE, SKIP_REASON

FILES = {f"UTKFace/{i}_0_1_2017.jpg": bytes([i]) * (i * 100) for i in range(20)}
Maker = Callable[[Path, Iterable[tuple[str, bytes]]], Path]


def make_tar(target: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    with tarfile.open(target, "w" if target.suffix == ".tar" else "w:gz") as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return target


def make_zip(target: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return target


def make_folder(target: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    for name, data in files:
        path = target.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return target


def make_special_tar(target: Path, kind: bytes, link: str = "") -> Path:
    with tarfile.open(target, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("UTKFace/good.jpg"))
        member = tarfile.TarInfo("UTKFace/special")
        member.type, member.linkname = kind, link
        archive.addfile(member)
    return target


MAKERS: dict[str, Maker] = {
    "UTKFace": make_folder,
    "UTKFace.tar": make_tar,
    "UTKFace.tar.gz": make_tar,
    "UTKFace.TGZ": make_tar,
    "UTKFace.zip": make_zip,
}
ARCHIVES = ["UTKFace.tar", "UTKFace.tar.gz", "UTKFace.zip"]


def refusal(source: Path) -> str:
    """Both ways of reading refuse the source, with the same message of one line."""
    messages = set()
    for read in (archives.names, archives.contents):
        with pytest.raises(IntegrityError) as caught:
            for _ in read(source):
                pass
        messages.add(str(caught.value))
    (message,) = messages
    assert source.name in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", MAKERS)
def test_every_kind_gives_the_same_paths_and_bytes(name: str, tmp_path: Path) -> None:
    source = MAKERS[name](tmp_path / name, FILES.items())
    assert dict(archives.contents(source)) == FILES
    assert sorted(archives.names(source)) == sorted(FILES)


def test_folder_is_walked_deep_and_sorted_whatever_order_it_was_made_in(tmp_path: Path) -> None:
    paths = ["set/10.jpg", "set/9.jpg", "set/a/1.jpg", "set/a/b/2.jpg", "set/b/3.jpg", "set/é.jpg"]
    shuffled = random.Random(0).sample(paths, len(paths))
    source = make_folder(tmp_path / "set", [(path, b"x") for path in shuffled])
    order = ["set/10.jpg", "set/9.jpg", "set/é.jpg", "set/a/1.jpg", "set/a/b/2.jpg", "set/b/3.jpg"]
    assert list(archives.names(source)) == order
    assert [path for path, _ in archives.contents(source)] == order


def test_source_may_itself_be_a_link(tmp_path: Path) -> None:
    make_folder(tmp_path / "elsewhere", [("elsewhere/1.jpg", b"x")])
    (tmp_path / "UTKFace").symlink_to(tmp_path / "elsewhere")
    assert list(archives.names(tmp_path / "UTKFace")) == ["UTKFace/1.jpg"]


def test_leading_dots_and_folder_members_do_not_show(tmp_path: Path) -> None:
    source = tmp_path / "set.tar.gz"
    with tarfile.open(source, "w:gz") as archive:
        for name in (".", "./UTKFace"):
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
        archive.addfile(tarfile.TarInfo("./UTKFace//1.jpg"))
    assert list(archives.names(source)) == ["UTKFace/1.jpg"]
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.mkdir("UTKFace")
        archive.writestr("UTKFace/1.jpg", b"x")
    assert list(archives.contents(tmp_path / "set.zip")) == [("UTKFace/1.jpg", b"x")]


@pytest.mark.parametrize("name", ["nothing", "nothing.tar.gz", "nothing.zip"])
def test_missing_source(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{name} is missing"):
        list(archives.names(tmp_path / name))


@pytest.mark.parametrize("name", MAKERS)
def test_empty_source(name: str, tmp_path: Path) -> None:
    (tmp_path / "UTKFace").mkdir()
    source = MAKERS[name](tmp_path / name, [])
    with pytest.raises(DataError, match="holds no files"):
        list(archives.names(source))


@pytest.mark.parametrize("name", ARCHIVES)
def test_file_of_no_bytes(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DataError, match="empty file"):
        list(archives.names(tmp_path / name))


def test_unknown_kind_names_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "faces.rar").write_bytes(b"Rar!")
    with pytest.raises(DataError, match=r"faces\.rar.*\.tar\.gz, \.tgz, \.tar or \.zip"):
        list(archives.names(tmp_path / "faces.rar"))


@pytest.mark.parametrize("name", ARCHIVES)
def test_html_under_an_archive_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("\n<!DOCTYPE html><html><title>Quota exceeded</title></html>" * 20)
    kind = {"UTKFace.tar": "tar", "UTKFace.tar.gz": "gzip", "UTKFace.zip": "zip"}[name]
    assert f"looks like HTML, not {kind}" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ARCHIVES)
def test_other_content_under_an_archive_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 30)
    refusal(tmp_path / name)


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("member", ["../evil.jpg", "UTKFace/../../evil.jpg", "UTKFace\\..\\evil.jpg"])
def test_path_that_climbs(name: str, member: str, tmp_path: Path) -> None:
    source = MAKERS[name](tmp_path / name, [("UTKFace/good.jpg", b"x"), (member, b"x")])
    assert "'..'" in refusal(source)
    assert "evil.jpg" in refusal(source)


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("member", ["/etc/evil.jpg", "\\\\host\\evil.jpg", "C:\\evil.jpg", "c:/evil.jpg"])
def test_absolute_path(name: str, member: str, tmp_path: Path) -> None:
    source = MAKERS[name](tmp_path / name, [("UTKFace/good.jpg", b"x"), (member, b"x")])
    assert "absolute path" in refusal(source)
    assert "evil.jpg" in refusal(source)


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_name_that_is_there_twice(name: str, tmp_path: Path) -> None:
    source = MAKERS[name](tmp_path / name, [("UTKFace/1.jpg", b"x"), ("./UTKFace/1.jpg", b"y")])
    assert "'UTKFace/1.jpg' occurs twice" in refusal(source)


@pytest.mark.parametrize(
    ("kind", "link", "expected"),
    [
        (tarfile.SYMTYPE, "/etc/passwd", "a symbolic link"),
        (tarfile.SYMTYPE, "good.jpg", "a symbolic link"),
        (tarfile.LNKTYPE, "UTKFace/good.jpg", "a hard link"),
        (tarfile.FIFOTYPE, "", "special file"),
        (tarfile.CHRTYPE, "", "special file"),
        (tarfile.BLKTYPE, "", "special file"),
    ],
)
def test_tar_member_that_is_no_regular_file(kind: bytes, link: str, expected: str, tmp_path: Path) -> None:
    message = refusal(make_special_tar(tmp_path / "set.tar.gz", kind, link))
    assert "'UTKFace/special'" in message
    assert expected in message


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_zip_member_that_is_no_regular_file(kind: int, tmp_path: Path) -> None:
    source = tmp_path / "set.zip"
    with zipfile.ZipFile(source, "w") as archive:
        member = zipfile.ZipInfo("UTKFace/special")
        member.external_attr = (kind | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    assert "'UTKFace/special' is a" in refusal(source)


def special_link(path: Path) -> None:
    path.symlink_to("good.jpg")


def special_socket(path: Path) -> None:
    # Bound by its short relative name: a socket's path has about a hundred bytes.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("make", [special_link, special_socket, os.mkfifo])
def test_folder_entry_that_is_no_regular_file(make: Callable[[Path], None], tmp_path: Path) -> None:
    source = make_folder(tmp_path / "UTKFace", [("UTKFace/deep/good.jpg", b"x")])
    make(source / "deep/special")
    assert "deep/special' is " in refusal(source)


def test_file_that_cannot_be_read_is_handed_on_as_its_error(tmp_path: Path) -> None:
    files = [(f"UTKFace/{i}.jpg", b"x") for i in range(3)]
    source = make_folder(tmp_path / "UTKFace", files)
    reading = archives.contents(source)
    assert next(reading) == files[0]
    (source / "1.jpg").unlink()
    path, error = next(reading)
    assert path == "UTKFace/1.jpg"
    assert isinstance(error, FileNotFoundError)
    assert list(reading) == files[2:]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_folder_and_archive_without_permission(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "UTKFace", [("UTKFace/1.jpg", b"x"), ("UTKFace/deep/2.jpg", b"x")])
    (source / "deep").chmod(0)
    with pytest.raises(DataError, match=r"deep cannot be read: Permission denied"):
        list(archives.names(source))
    (source / "deep").chmod(0o700)
    archive = make_tar(tmp_path / "UTKFace.tar", FILES.items())
    archive.chmod(0)
    with pytest.raises(DataError, match="Permission denied"):
        list(archives.names(archive))


def damaged_versions(data: bytes) -> Iterator[bytes]:
    for share in (0.02, 0.3, 0.5, 0.9, 0.99):
        yield data[: int(len(data) * share)]
    yield data[:-1]


@pytest.mark.parametrize("name", ["UTKFace.tar.gz", "UTKFace.zip"])
def test_cut_archive_is_refused_wherever_it_is_cut(name: str, tmp_path: Path) -> None:
    noise = random.Random(0)
    files = {f"UTKFace/{i}.jpg": noise.randbytes(3000) for i in range(50)}
    whole = MAKERS[name](tmp_path / f"whole-{name}", files.items()).read_bytes()
    for data in damaged_versions(whole):
        (tmp_path / name).write_bytes(data)
        assert "truncated or damaged" in refusal(tmp_path / name)


def test_cut_tar_is_refused_at_the_border_of_a_member_too(tmp_path: Path) -> None:
    files = [(f"UTKFace/{i}.jpg", b"x" * 512) for i in range(8)]
    whole = make_tar(tmp_path / "whole.tar", files).read_bytes()
    for size in (100, 512, 1024, 1300, 4096, 8 * 1024):
        (tmp_path / "cut.tar").write_bytes(whole[:size])
        assert "truncated or damaged" in refusal(tmp_path / "cut.tar")


def test_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    data = bytearray(make_tar(tmp_path / "set.tar", FILES.items()).read_bytes())
    position = data.index(b"UTKFace/9_")
    data[position : position + 7] = b"XXXXXXX"
    (tmp_path / "set.tar").write_bytes(data)
    assert "truncated or damaged" in refusal(tmp_path / "set.tar")


def test_archive_behind_the_end_of_an_archive(tmp_path: Path) -> None:
    first = make_tar(tmp_path / "first.tar", list(FILES.items())[:3]).read_bytes()
    second = make_tar(tmp_path / "second.tar", list(FILES.items())[3:]).read_bytes()
    (tmp_path / "both.tar").write_bytes(first + second)
    assert "data follows the end" in refusal(tmp_path / "both.tar")


def test_flipped_bytes_fail_the_checksum_of_a_zip(tmp_path: Path) -> None:
    source = tmp_path / "set.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("UTKFace/1.jpg", b"abcdefgh" * 100)
    source.write_bytes(source.read_bytes().replace(b"abcdefgh", b"abcdefgX", 1))
    with pytest.raises(IntegrityError, match="Bad CRC-32"):
        list(archives.contents(source))


def test_wrong_checksum_of_a_gzip(tmp_path: Path) -> None:
    source = make_tar(tmp_path / "set.tar.gz", FILES.items())
    data = bytearray(source.read_bytes())
    data[-8] ^= 1
    source.write_bytes(data)
    assert "CRC check failed" in refusal(source)


def test_encrypted_zip(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "set.zip", [("UTKFace/1.jpg", b"x")])
    data = bytearray(source.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    source.write_bytes(data)
    assert "'UTKFace/1.jpg' is encrypted" in refusal(source)


def test_zip_method_that_is_not_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("UTKFace/1.jpg", b"x")
    assert "other than stored or deflated" in refusal(tmp_path / "set.zip")


def test_zip_that_announces_more_members_than_are_found(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "set.zip", FILES.items())
    data = bytearray(source.read_bytes())
    data[data.index(b"PK\x01\x02") + 32] = 46 + len(
        "UTKFace/1_0_1_2017.jpg"
    )  # the first member's comment swallows the second member
    source.write_bytes(data)
    assert "19 members are found where 20 are announced" in refusal(source)


def test_zip_whose_count_is_in_its_second_end_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As it is from 65,535 members on, at less expense.
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 5)
    source = make_zip(tmp_path / "set.zip", FILES.items())
    data = bytearray(source.read_bytes())
    assert b"PK\x06\x06" in data
    data[-14:-10] = b"\xff" * 4
    source.write_bytes(data)
    assert dict(archives.contents(source)) == FILES
    data[data.index(b"PK\x06\x06") + 32] = 21
    source.write_bytes(data)
    assert "20 members are found where 21 are announced" in refusal(source)


def test_zip_with_a_comment(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "set.zip", FILES.items())
    with zipfile.ZipFile(source, "a") as archive:
        archive.comment = b"from elsewhere"
    assert dict(archives.contents(source)) == FILES
    source.write_bytes(source.read_bytes() + b"and more")
    assert "truncated or damaged" in refusal(source)


def test_zip_name_is_not_cut_at_a_nul(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "set.zip", [("UTKFace/1.jpgNevil", b"x")])
    source.write_bytes(source.read_bytes().replace(b"jpgNevil", b"jpg\0evil"))
    assert list(archives.names(source)) == ["UTKFace/1.jpg\0evil"]


@pytest.mark.parametrize("name", ARCHIVES)
def test_too_many_members(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = MAKERS[name](tmp_path / name, FILES.items())
    monkeypatch.setattr(archives, "MAX_MEMBERS", len(FILES))
    assert len(list(archives.names(source))) == len(FILES)
    monkeypatch.setattr(archives, "MAX_MEMBERS", len(FILES) - 1)
    assert "members" in refusal(source)


@pytest.mark.parametrize("name", ARCHIVES)
def test_member_that_is_too_large(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = MAKERS[name](tmp_path / name, [("UTKFace/1.jpg", b"x" * 5000)])
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 5000)
    assert len(list(archives.contents(source))) == 1
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 4999)
    assert "'UTKFace/1.jpg' has 5000 bytes" in refusal(source)


def test_file_of_a_folder_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_folder(tmp_path / "UTKFace", [("UTKFace/1.jpg", b"x" * 5000)])
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 4999)
    with pytest.raises(IntegrityError, match=r"1\.jpg' is larger than"):
        list(archives.contents(source))


@pytest.mark.parametrize("name", ARCHIVES)
def test_total_that_is_too_large(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = MAKERS[name](tmp_path / name, FILES.items())
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 10_000)
    assert "unpacks to more than" in refusal(source)


@pytest.mark.parametrize("name", ["UTKFace.tar.gz", "UTKFace.zip"])
def test_bomb_is_refused_by_its_ratio_before_it_goes_off(name: str, tmp_path: Path) -> None:
    zeros = bytes(2**20)
    source = MAKERS[name](tmp_path / name, [(f"UTKFace/{i}.jpg", zeros) for i in range(40)])
    assert source.stat().st_size < 2**18
    tracemalloc.start()
    message = refusal(source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "times its size" in message
    assert peak < 4 * 2**20


def test_bomb_behind_the_end_of_a_tar(tmp_path: Path) -> None:
    source = tmp_path / "set.tar.gz"
    whole = make_tar(tmp_path / "set.tar", FILES.items()).read_bytes()
    source.write_bytes(gzip.compress(whole + bytes(64 * 2**20)))
    assert "times its size" in refusal(source)


def test_bomb_in_the_header_of_a_tar(tmp_path: Path) -> None:
    source = tmp_path / "set.tar"
    with tarfile.open(source, "w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("UTKFace/" + "x" * 2**22))
    tracemalloc.start()
    message = refusal(source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "header is larger" in message
    assert peak < 2 * 2**20


def test_long_and_foreign_names_arrive_whole(tmp_path: Path) -> None:
    paths = ["UTKFace/" + "x" * 300 + ".jpg", "UTKFace/é😀 %'\".jpg", "UTKFace/a\nb.jpg"]
    for format_ in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "set.tar", "w", format=format_) as archive:
            for path in paths:
                archive.addfile(tarfile.TarInfo(path))
        assert list(archives.names(tmp_path / "set.tar")) == paths


@pytest.mark.parametrize("name", ["UTKFace.tar.gz", "UTKFace.zip"])
def test_random_damage_is_refused_or_harmless(name: str, tmp_path: Path) -> None:
    whole = MAKERS[name](tmp_path / f"whole-{name}", FILES.items()).read_bytes()
    noise = random.Random(0)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(noise.choice([1, 3, 20])):
            data[noise.randrange(len(data))] = noise.randrange(256)
        (tmp_path / name).write_bytes(data)
        try:
            assert dict(archives.contents(tmp_path / name)) == FILES
        except ManyheadsError:
            refused += 1
    assert refused > 100


def test_memory_does_not_grow_with_headers(tmp_path: Path) -> None:
    def peak_of(count: int) -> int:
        source = make_tar(tmp_path / f"{count}.tar", ((f"UTKFace/{i}.jpg", b"") for i in range(count)))
        tracemalloc.start()
        for _ in archives.names(source):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    # A path in the set of those seen takes about 150 bytes, a kept header over 1,000.
    assert peak_of(6000) - peak_of(1000) < 5000 * 400


@pytest.mark.slow
@pytest.mark.skipif(ARCHIVE is None, reason=SKIP_REASON)
def test_real_archive() -> None:
    assert ARCHIVE is not None
    paths = list(archives.names(ARCHIVE))
    assert len(paths) == len(set(paths)) == 20_181
    assert all(path.startswith("UTKFace/") for path in paths)
