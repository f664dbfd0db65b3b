import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manyheads.datasets import Record, Rejection
from manyheads.datasets.utkface import DATASET, parse_name
from manyheads.errors import DataError, MachineError

STAMP = "20170116174525125"
CODES = {"JUNK", "NAME_UNSAFE", "LABEL_MISSING", "LABEL_EMPTY", "NAME_PATTERN"}

ACCEPTED = [
    ("100_0_0_20170112213500903.jpg.chip.jpg", (100, 0, 0), ""),
    ("25_1_4_20170116174525125.jpg", (25, 1, 4), ""),
    ("0_0_0_20170116174525125.jpg", (0, 0, 0), ""),
    ("24_0_1_20170116220224657 .jpg.chip.jpg", (24, 0, 1), "ending ' .jpg.chip.jpg'"),
    ("55_0_0_20170116232725357jpg.chip.jpg", (55, 0, 0), "ending 'jpg.chip.jpg'"),
    ("44_1_4_20170116235150272.pg.chip.jpg", (44, 1, 4), "ending '.pg.chip.jpg'"),
    ("44_1_4_20170116235150272.JPG", (44, 1, 4), "ending '.JPG'"),
    ("44_1_4_20170116235150272.jpeg", (44, 1, 4), "ending '.jpeg'"),
    ("44_1_4_20170116235150272.JPG.chip.Jpg", (44, 1, 4), "ending '.JPG.chip.Jpg'"),
    ("14_0_0_2017011022340900.jpg.chip.jpg", (14, 0, 0), "timestamp of 16 digits"),
    ("28_1_2_201701161846515488.jpg.chip.jpg", (28, 1, 2), "timestamp of 18 digits"),
    ("38_0_1_201701162330572788.jpg.chip.jpg", (38, 0, 1), "timestamp of 18 digits"),
    ("38_0_1_20171399330572788.jpg.chip.jpg", (38, 0, 1), "timestamp is no date"),
    ("38_0_1_20170230120000000.jpg", (38, 0, 1), "timestamp is no date"),
    ("38_0_1_2017 .JPG", (38, 0, 1), "ending ' .JPG'; timestamp of 4 digits"),
    # Label spaces belong to the heads.
    ("117_0_0_20170116174525125.jpg", (117, 0, 0), ""),
    ("25_2_7_20170116174525125.jpg", (25, 2, 7), ""),
]
REJECTED = [
    ("39_1_20170116174525125.jpg.chip.jpg", "LABEL_MISSING"),
    ("61_1_20170109142408075.jpg.chip.jpg", "LABEL_MISSING"),
    ("61_1_20170109150557335.jpg.chip.jpg", "LABEL_MISSING"),
    ("61_3_20170109150557335.jpg", "LABEL_MISSING"),
    ("61_20170109150557335.jpg", "LABEL_MISSING"),
    ("53__0_20170116184028385.jpg", "LABEL_EMPTY"),
    ("_1_0_20170116184028385.jpg", "LABEL_EMPTY"),
    ("53_1__20170116184028385.jpg", "LABEL_EMPTY"),
    ("___20170116184028385.jpg", "LABEL_EMPTY"),
    ("007_1_0_20170116184028385.jpg", "NAME_PATTERN"),
    ("25_01_0_20170116184028385.jpg", "NAME_PATTERN"),
    ("25_00_0_20170116184028385.jpg", "NAME_PATTERN"),
    ("25_-1_0_20170116184028385.jpg", "NAME_PATTERN"),
    ("25_+1_0_20170116184028385.jpg", "NAME_PATTERN"),
    ("1e2_1_0_20170116184028385.jpg", "NAME_PATTERN"),
    ("25.0_1_0_20170116184028385.jpg", "NAME_PATTERN"),
    ("٣٤_1_0_20170116184028385.jpg", "NAME_PATTERN"),
    ("34_1_0_\uff12\uff10170116184028385.jpg", "NAME_PATTERN"),
    ("25_1_0_.jpg", "NAME_PATTERN"),
    ("25_1_0.jpg.chip.jpg ", "NAME_PATTERN"),
    ("25_1_0_20170116184028385", "NAME_PATTERN"),
    ("25_1_0_20170116184028385.png", "NAME_PATTERN"),
    ("25_1_0_20170116184028385.jpg.exe", "NAME_PATTERN"),
    ("25_1_0_20170116184028385  .jpg", "NAME_PATTERN"),
    ("25_1_0_5_20170116184028385.jpg", "NAME_PATTERN"),
    (" 25_1_0_20170116184028385.jpg", "NAME_PATTERN"),
    ("25_1_0_20170116184028385.\uff4apg", "NAME_PATTERN"),
    ("README.md", "NAME_PATTERN"),
    ("20170116184028385.jpg", "NAME_PATTERN"),
    ("", "NAME_PATTERN"),
    ("25_1_0_20170116184028385.jpg/", "NAME_PATTERN"),
    ("25_1_0_20170116184028385.jpg\n", "NAME_UNSAFE"),
    ("25_1_0_20170116184028385\0.jpg", "NAME_UNSAFE"),
    ("a\rb/25_1_0_20170116184028385.jpg", "NAME_UNSAFE"),
    ("a\u202egpj/25_1_0_20170116184028385.jpg", "NAME_UNSAFE"),
    ("a\udcff/25_1_0_20170116184028385.jpg", "NAME_UNSAFE"),
    ("a\\25_1_0_20170116184028385.jpg", "NAME_UNSAFE"),
    ("-1_1_0_20170116184028385.jpg", "NAME_UNSAFE"),
    ("=cmd()_25_1_0.jpg", "NAME_UNSAFE"),
    ("+1_1_0_20170116184028385.jpg", "NAME_UNSAFE"),
    ("@a/25_1_0_20170116184028385.jpg", "NAME_UNSAFE"),
    ("a/-rf/25_1_0_20170116184028385.jpg", "NAME_UNSAFE"),
    ("x" * 300 + "/25_1_0_20170116184028385.jpg", "NAME_UNSAFE"),
    ("é" * 120 + "/25_1_0_20170116184028385.jpg", "NAME_UNSAFE"),
    ("__MACOSX/UTKFace/25_1_0_20170116184028385.jpg", "JUNK"),
    (".DS_Store", "JUNK"),
    ("._25_1_0_20170116184028385.jpg", "JUNK"),
    ("Thumbs.db", "JUNK"),
    ("thumbs.DB", "JUNK"),
    ("desktop.ini", "JUNK"),
]


@pytest.mark.parametrize("folder", ["", "UTKFace/", "data/crop part 1/é😀%'\"<b>/"])
@pytest.mark.parametrize(("name", "labels", "note"), ACCEPTED)
def test_accepted_name(folder: str, name: str, labels: tuple[int, int, int], note: str) -> None:
    expected = Record(dict(zip(("age", "gender", "race"), labels, strict=True)), note)
    assert parse_name(folder + name) == expected


@pytest.mark.parametrize("folder", ["", "UTKFace/"])
@pytest.mark.parametrize(("name", "code"), REJECTED)
def test_rejected_name(folder: str, name: str, code: str) -> None:
    result = parse_name(folder + name)
    assert isinstance(result, Rejection)
    assert result.code == code
    assert result.reason.isprintable()


def test_junk_is_recognised_by_whole_names_in_a_path() -> None:
    for path in ("my__MACOSX/", "a.DS_Store/", "desktop.ini/", "._a/", "a._b/"):
        assert isinstance(parse_name(f"{path}25_1_0_{STAMP}.jpg"), Record)


def test_path_of_255_bytes_is_accepted_and_of_256_is_not() -> None:
    name = f"/25_1_0_{STAMP}.jpg"
    assert isinstance(parse_name("x" * (255 - len(name)) + name), Record)
    assert isinstance(parse_name("x" * (256 - len(name)) + name), Rejection)


def test_reason_says_which_label_is_empty() -> None:
    result = parse_name(f"53__0_{STAMP}.jpg")
    assert isinstance(result, Rejection)
    assert "gender is empty" in result.reason


@given(
    age=st.integers(0, 10**12),
    gender=st.integers(0, 10**6),
    race=st.integers(0, 10**6),
    moment=st.datetimes(),
    ending=st.sampled_from([".jpg", ".jpg.chip.jpg"]),
)
def test_any_labels_and_moment_are_read_back(age: int, gender: int, race: int, moment, ending: str) -> None:
    stamp = f"{moment.year:04d}{moment:%m%d%H%M%S}{moment.microsecond // 1000:03d}"
    result = parse_name(f"UTKFace/{age}_{gender}_{race}_{stamp}{ending}")
    assert result == Record({"age": age, "gender": gender, "race": race}, "")


NEAR_NAMES = st.lists(
    st.sampled_from(["25", "0", "1", "_", ".", "jpg", "chip", STAMP, " ", "/", "-", "=", "\n", "٣", "\ud800", "é"]),
    max_size=14,
).map("".join)


@given(path=st.one_of(st.text(st.characters(exclude_categories=[])), NEAR_NAMES))
@example("\ud800")
@example("\x00")
@example("9" * 6000 + "_1_1_1.jpg")
def test_no_text_makes_it_raise_and_labels_are_those_of_the_text(path: str) -> None:
    result = parse_name(path)
    if isinstance(result, Rejection):
        assert result.code in CODES
        result.reason.encode()
    else:
        name = path.rpartition("/")[2]
        assert name.startswith("{age}_{gender}_{race}_".format(**result.labels))
        assert name.isascii()


@pytest.mark.parametrize("piece", ["9", "_", "1_", ".jpg", " ", "/", "/._", "/__MACOSX", "._a", "jpg.chip"])
def test_time_is_linear_in_the_length(piece: str) -> None:
    start = time.perf_counter()
    assert isinstance(parse_name("25_1_0_" + piece * (10**6 // len(piece))), Rejection)
    assert time.perf_counter() - start < 2


class TestProvide:
    def test_data_that_is_there_stays_untouched(self, tmp_path: Path) -> None:
        target = tmp_path / "data/raw/UTKFace.tar.gz"
        target.parent.mkdir(parents=True)
        target.write_bytes(b"x")
        DATASET.provide(target, target)
        assert target.read_bytes() == b"x"
        assert not target.is_symlink()

    def test_copy_of_the_project_gets_a_link_to_the_original(self, tmp_path: Path) -> None:
        original = tmp_path / "main/data/raw/UTKFace"
        original.mkdir(parents=True)
        (original / "1.jpg").write_bytes(b"x")
        target = tmp_path / "copy/data/raw/UTKFace"
        DATASET.provide(target, original)
        assert target.is_symlink()
        assert (target / "1.jpg").read_bytes() == b"x"
        DATASET.provide(target, original)

    def test_missing_data_says_in_one_line_how_to_get_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for target in (tmp_path / "data/raw/UTKFace.tar.gz", tmp_path / "copy/data/raw/UTKFace.tar.gz"):
            with pytest.raises(DataError) as caught:
                DATASET.provide(target, tmp_path / "data/raw/UTKFace.tar.gz")
            message = str(caught.value)
            assert message.startswith("data/raw/UTKFace.tar.gz is missing")
            for expected in ("aligned & cropped", "107 MB", "https://", "non-commercial", "data=sample"):
                assert expected in message
            assert "\n" not in message
            assert not target.is_symlink()

    @pytest.mark.parametrize("original", [False, True])
    def test_empty_data(self, original: bool, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "file.tar.gz").touch()
        for path in (tmp_path / "folder", tmp_path / "file.tar.gz"):
            target = tmp_path / "copy" / path.name if original else path
            with pytest.raises(DataError, match="is empty"):
                DATASET.provide(target, path)
            assert not target.is_symlink()

    def test_link_to_nothing_is_left_to_the_person(self, tmp_path: Path) -> None:
        target = tmp_path / "UTKFace"
        target.symlink_to(tmp_path / "gone")
        with pytest.raises(DataError, match="gone, which is missing"):
            DATASET.provide(target, tmp_path / "original")
        assert target.is_symlink()

    def test_folder_that_cannot_be_written_to(self, tmp_path: Path) -> None:
        original = tmp_path / "UTKFace.tar.gz"
        original.write_bytes(b"x")
        (tmp_path / "file").touch()
        with pytest.raises(MachineError, match="cannot link"):
            DATASET.provide(tmp_path / "file/UTKFace.tar.gz", original)
