import hashlib
import io
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manyheads.config.schema import Config
from manyheads.datasets import Record, Rejection
from manyheads.datasets.synthetic import sample
from manyheads.errors import MachineError
from manyheads.inputs import image_files
from manyheads.preprocessing.duplicates import group_duplicates

COPIES = sum(sample.COPIES.values()) + sum(sample.CONFLICTING_COPIES.values())
MISNAMED = len(sample.REJECTED_NAMES)


@pytest.fixture(scope="module")
def archive_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "raw/sample.zip"
    sample.provide(path)
    return path


@pytest.fixture(scope="module")
def members(archive_path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive_path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def names(members: dict[str, bytes], make_config: Callable[..., Config]) -> dict[str, Record]:
    """Names that parse would accept: readable, and inside the label spaces of conf/data/sample.yaml."""
    heads = make_config().data.heads
    spaces = {
        "age": range(int(heads["age"].minimum), int(heads["age"].maximum) + 1),
        "race": range(len(heads["race"].classes)),
        "gender": range(len(heads["gender"].classes)),
    }
    parsed = {name: sample.parse_name(name) for name in members}
    return {
        name: result
        for name, result in parsed.items()
        if isinstance(result, Record) and all(result.labels[key] in space for key, space in spaces.items())
    }


@pytest.fixture(scope="module")
def decoded(
    members: dict[str, bytes], names: dict[str, Record]
) -> dict[str, image_files.Decoded | image_files.Unreadable]:
    outcomes: dict[str, image_files.Decoded | image_files.Unreadable] = {}
    for name in names:
        try:
            outcomes[name] = image_files.decode(members[name], 48)
        except image_files.Unreadable as refusal:
            outcomes[name] = refusal
    return outcomes


@pytest.fixture(scope="module")
def accepted(decoded: dict[str, image_files.Decoded | image_files.Unreadable]) -> dict[str, image_files.Decoded]:
    return {name: outcome for name, outcome in decoded.items() if isinstance(outcome, image_files.Decoded)}


@pytest.mark.slow
def test_two_archives_are_byte_identical(archive_path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    sample.provide(again)
    assert again.read_bytes() == archive_path.read_bytes()


def test_whole_archive_is_left_alone(tmp_path: Path, archive_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sample.zip"
    path.write_bytes(archive_path.read_bytes())
    monkeypatch.setattr(sample, "_files", lambda: pytest.fail("made again"))
    sample.provide(path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "older"])
def test_other_archives_are_made_again(
    tmp_path: Path, archive_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    whole = archive_path.read_bytes()
    flipped = bytearray(whole)
    flipped[100_000] ^= 0xFF
    older = whole.removesuffix(sample.EDITION) + b"x" * len(sample.EDITION)
    path = tmp_path / "sample.zip"
    path.write_bytes({"cut": whole[:-1000], "flipped": bytes(flipped), "older": older}[damage])
    monkeypatch.setattr(sample, "_files", lambda: {"sample/new": b"new"})
    sample.provide(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["sample/new"]


def test_failure_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> dict[str, bytes]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sample, "_files", full)
    with pytest.raises(MachineError, match=r"sample\.zip: No space left"):
        sample.provide(tmp_path / "sample.zip")
    assert list(tmp_path.iterdir()) == []


def test_members_are_stored_sorted_and_unique(archive_path: Path) -> None:
    with zipfile.ZipFile(archive_path) as archive:
        listed = archive.infolist()
    assert [member.filename for member in listed] == sorted({member.filename for member in listed})
    assert len(listed) == sample.CARDS + COPIES + len(sample.JUNK)
    assert {member.compress_type for member in listed} == {zipfile.ZIP_STORED}
    assert archive_path.stat().st_size < 10_000_000


def test_names_are_malformed_as_planned(members: dict[str, bytes], names: dict[str, Record]) -> None:
    refused = {name: sample.parse_name(name) for name in members if name not in names}
    codes = Counter(result.code if isinstance(result, Rejection) else "RANGE" for result in refused.values())
    assert codes == {"JUNK": len(sample.JUNK), "LABEL_MISSING": 2, "LABEL_EMPTY": 1, "RANGE": 1}
    assert sorted(result.note for result in names.values() if result.note) == [
        "ending ' .jpg.chip.jpg'",
        "ending '.pg.chip.jpg'",
        "ending 'jpg.chip.jpg'",
    ]


def test_timestamps_are_unique_dates(members: dict[str, bytes], names: dict[str, Record]) -> None:
    stamps = [name.rpartition("_")[2][:17] for name in names]
    assert len(set(stamps)) == len(names)
    assert all(stamp.isdecimal() for stamp in stamps)


def test_labels_are_skewed_and_independent(names: dict[str, Record]) -> None:
    age, gender, race = (np.array([name.labels[key] for name in names.values()]) for key in ("age", "gender", "race"))
    assert set(race) == set(range(5))
    assert np.bincount(race).argmax() == 0
    assert np.bincount(race).min() > 0.05 * len(race)
    assert 0.4 < gender.mean() < 0.6
    assert age.min() == 0
    assert 20 <= np.median(age) <= 40
    assert age.mean() > np.median(age)
    assert (age >= 80).sum() > 30
    correlations = np.abs(np.corrcoef([age, gender, race])[np.triu_indices(3, 1)])
    assert correlations.max() < 0.06


def test_contents_are_refused_and_converted_as_planned(
    decoded: dict[str, image_files.Decoded | image_files.Unreadable],
) -> None:
    codes = Counter(outcome.code for outcome in decoded.values() if isinstance(outcome, image_files.Unreadable))
    assert sorted(codes.values()) == sorted(sample.UNDECODABLE.values())
    notes = [outcome.note.lower() for outcome in decoded.values() if isinstance(outcome, image_files.Decoded)]
    assert sum("grey" in note for note in notes) == sample.CONVERTED["greyscale"]
    assert sum("cmyk" in note for note in notes) == sample.CONVERTED["cmyk"]
    assert sum(bool(note) for note in notes) == sum(sample.CONVERTED.values())


def test_rejects_are_under_one_percent(members: dict[str, bytes], accepted: dict[str, image_files.Decoded]) -> None:
    files = len(members) - len(sample.JUNK)
    assert files - len(accepted) == MISNAMED + sum(sample.UNDECODABLE.values())
    assert files - len(accepted) < 0.01 * files


def test_exif_rotated_cards_are_among_them(members: dict[str, bytes]) -> None:
    jpegs = [content for content in members.values() if content.startswith(b"\xff\xd8\xff")]
    turned = [content for content in jpegs if Image.open(io.BytesIO(content)).getexif().get(0x0112) == 6]
    assert len(turned) == sample.CONVERTED["rotated"]


@pytest.mark.parametrize("how", sample.CONVERTED)
def test_converted_cards_show_what_they_showed(members: dict[str, bytes], how: str) -> None:
    """A turned card in particular must keep its stripes' direction."""
    name = next(name for name in members if name.startswith("sample/40_0_"))
    card = np.asarray(Image.open(io.BytesIO(members[name])))
    shown = image_files.decode(sample._treated(card, how), sample.SIZE).pixels
    assert np.corrcoef(shown.mean(axis=2).ravel(), card.mean(axis=2).ravel())[0, 1] > 0.95


def test_copies_alone_look_alike(members: dict[str, bytes], accepted: dict[str, image_files.Decoded]) -> None:
    fingerprints = np.stack([image_files.fingerprint(outcome.pixels) for outcome in accepted.values()])
    flat, mirrored = (_normalized(pictures) for pictures in (fingerprints, fingerprints[:, :, ::-1]))
    alike = np.maximum(flat @ flat.T, flat @ mirrored.T)[np.triu_indices(len(flat), 1)]
    assert (alike > 0.986).sum() == COPIES
    assert np.sort(alike)[-COPIES - 1] < 0.97


def _normalized(pictures: np.ndarray) -> np.ndarray:
    flat = pictures.reshape(len(pictures), -1).astype(float)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def test_groups_are_as_planned(
    members: dict[str, bytes],
    names: dict[str, Record],
    accepted: dict[str, image_files.Decoded],
    make_config: Callable[..., Config],
) -> None:
    digests = [hashlib.sha256(members[name]).hexdigest() for name in accepted]
    fingerprints = np.stack([image_files.fingerprint(outcome.pixels) for outcome in accepted.values()])
    found = group_duplicates(digests, fingerprints, make_config().inputs["image"].duplicate_correlation)
    assert found.identical_groups == sample.COPIES["identical"] + sample.CONFLICTING_COPIES["identical"]
    assert found.near_duplicate_pairs == COPIES - found.identical_groups
    groups = defaultdict(list)
    for name, group in zip(accepted, found.groups, strict=True):
        groups[group].append(names[name].labels)
    doubles = [labels for labels in groups.values() if len(labels) > 1]
    assert [len(labels) for labels in doubles] == [2] * COPIES
    conflicts = [(first, second) for first, second in doubles if first != second]
    assert len(conflicts) == sum(sample.CONFLICTING_COPIES.values())
    assert {key for first, second in conflicts for key in first if first[key] != second[key]} == {
        "age",
        "gender",
        "race",
    }


def test_marks_show_the_age_and_hues_the_race(
    names: dict[str, Record], accepted: dict[str, image_files.Decoded]
) -> None:
    """Crude readings, far below what a network sees, are already well above chance."""
    pixels = np.stack([outcome.pixels for outcome in accepted.values()])
    age, race, gender = (np.array([names[name].labels[key] for name in accepted]) for key in ("age", "race", "gender"))
    grey = pixels.mean(axis=3)
    edges = np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2)) + np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2))
    assert np.corrcoef(edges, age)[0, 1] > 0.6

    colour = np.median(pixels.reshape(len(pixels), -1, 3), axis=1)
    hue = np.array(
        [Image.new("RGB", (1, 1), tuple(int(c) for c in row)).convert("HSV").getpixel((0, 0))[0] for row in colour]
    )
    centres = np.array(sample.HUES[:5]) / 360 * 256
    distance = np.abs((hue[:, None] - centres + 128) % 256 - 128)
    assert 0.7 < (distance.argmin(axis=1) == race).mean() < 0.95

    fewest = age < 6
    along, across = (np.abs(np.diff(grey.mean(axis=axis), n=2, axis=1)).mean(axis=1) for axis in (1, 2))
    assert ((along > across) == gender)[fewest].mean() > 0.85
