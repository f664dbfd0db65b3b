import csv
import io
import logging
import random
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import compose
from manyheads.config.schema import Config
from manyheads.data.tables import read_manifest
from manyheads.datasets.utkface import parse_name
from manyheads.errors import ConfigError, DataError, IntegrityError
from manyheads.paths import Paths
from manyheads.preprocessing.labels import read_labels
from manyheads.runtime.printing import printable
from manyheads.stages import parse
from real import ARCHIVE, SKIP_REASON

HEADS = compose().data.heads
MakeConfig = Callable[..., Config]

GOOD = [f"UTKFace/{i}_{i % 2}_{i % 5}_2017011617452{i:04d}.jpg.chip.jpg" for i in range(1, 60)]
BAD = {
    "UTKFace/39_1_20170116174525125.jpg.chip.jpg": "LABEL_MISSING",
    "UTKFace/53__0_20170116184028385.jpg": "LABEL_EMPTY",
    "UTKFace/117_0_0_20170116174525125.jpg": "LABEL_RANGE",
    "UTKFace/25_2_0_20170116174525125.jpg": "LABEL_RANGE",
    "UTKFace/25_0_5_20170116174525125.jpg": "LABEL_RANGE",
    "UTKFace/readme.txt": "NAME_PATTERN",
    "UTKFace/-5_0_0_20170116174525125.jpg": "NAME_UNSAFE",
    "utkface/1_1_1_20170116174520001.jpg.chip.jpg": "NAME_CLASH",
    "UTKFace/.DS_Store": "JUNK",
    "__MACOSX/UTKFace/._1_1_1_20170116174520001.jpg.chip.jpg": "JUNK",
}


def make_source(root: Path, kind: str, paths: list[str], seed: int = 0) -> None:
    shuffled = random.Random(seed).sample(paths, len(paths))
    if kind == "folder":
        for path in shuffled:
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
    elif kind == "zip":
        with zipfile.ZipFile(root / "UTKFace.zip", "w") as archive:
            for path in shuffled:
                archive.writestr(path, b"")
    else:
        with tarfile.open(root / "UTKFace.tar.gz", "w:gz") as archive:
            for path in shuffled:
                archive.addfile(tarfile.TarInfo(path), io.BytesIO())


def run(make_config: MakeConfig, root: Path, *overrides: str, path: str = "UTKFace.tar.gz") -> Paths:
    layout = Paths(root)
    parse.run(make_config("data=utkface", f"data.path={path}", *overrides), layout, layout)
    return layout


def records(paths: list[str]) -> list[tuple[str, Any]]:
    return [(path, parse_name(path)) for path in paths]


def read_rejected(layout: Paths) -> list[dict[str, str]]:
    with layout.rejected.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def written(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and "UTKFace" not in str(path.relative_to(root))]


def test_every_name_is_accounted_for_once(make_config: MakeConfig, tmp_path: Path) -> None:
    make_source(tmp_path, "tar.gz", [*GOOD, *BAD])
    layout = run(make_config, tmp_path, "data.max_reject_fraction=0.2")
    manifest = read_manifest(layout.manifest, HEADS)
    assert list(manifest.columns) == ["path", "age", "race", "gender", "note"]
    assert list(manifest["path"]) == sorted(GOOD)
    for row in manifest.itertuples():
        assert row.path.startswith(f"UTKFace/{row.age}_{row.gender}_{row.race}_")
    rejected = read_rejected(layout)
    assert {row["path"]: row["code"] for row in rejected} == BAD
    assert [row["path"] for row in rejected] == sorted(BAD)
    assert {row["stage"] for row in rejected} == {"parse"}
    assert all(row["reason"].endswith(".") for row in rejected)


def test_reason_of_a_label_out_of_range_names_head_and_range(make_config: MakeConfig, tmp_path: Path) -> None:
    make_source(tmp_path, "tar.gz", [*GOOD, "UTKFace/117_0_9_20170116174525125.jpg"])
    (row,) = read_rejected(run(make_config, tmp_path, "data.max_reject_fraction=0.2"))
    assert "age 117 is outside 0-116 years" in row["reason"]
    assert "race 9 is none of 0-4" in row["reason"]


def test_tables_do_not_depend_on_the_kind_of_source_or_its_order(make_config: MakeConfig, tmp_path: Path) -> None:
    # The clash of letter case cannot be put into a folder on every system.
    paths = [
        *GOOD,
        *(path for path, code in BAD.items() if code != "NAME_CLASH" and path.startswith("UTKFace/")),
    ]
    tables = set()
    sources = {"folder": "UTKFace", "zip": "UTKFace.zip", "tar.gz": "UTKFace.tar.gz"}
    for seed, (kind, path) in enumerate(sources.items()):
        root = tmp_path / kind
        root.mkdir()
        make_source(root, kind, paths, seed)
        layout = run(make_config, root, "data.max_reject_fraction=0.2", path=path)
        tables.add((layout.manifest.read_bytes(), layout.rejected.read_bytes()))
    assert len(tables) == 1


def test_of_names_that_differ_in_case_or_unicode_form_the_first_is_kept(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    name = "1_1_1_20170116174520001.jpg"
    composed, decomposed = f"é/{name}", f"e\u0301/{name}"
    make_source(tmp_path, "tar.gz", [f"b/{name}", f"B/{name}", composed, decomposed, *GOOD])
    layout = run(make_config, tmp_path, "data.max_reject_fraction=0.2")
    kept = set(read_manifest(layout.manifest, HEADS)["path"])
    assert kept == {f"B/{name}", decomposed, *GOOD}
    assert [(row["path"], row["code"]) for row in read_rejected(layout)] == [
        (f"b/{name}", "NAME_CLASH"),
        (composed, "NAME_CLASH"),
    ]


def test_notes_are_kept(make_config: MakeConfig, tmp_path: Path) -> None:
    make_source(tmp_path, "tar.gz", ["UTKFace/24_0_1_20170116220224657 .jpg.chip.jpg"])
    manifest = read_manifest(run(make_config, tmp_path).manifest, HEADS)
    assert list(manifest["note"]) == ["ending ' .jpg.chip.jpg'"]


def test_hostile_names_are_harmless_in_the_table(make_config: MakeConfig, tmp_path: Path) -> None:
    hostile = ['=cmd()|"a",b\n.jpg', "UTKFace/\udcff.jpg", "UTKFace/a\r\nb,c.jpg", 'UTKFace/<script>"%.jpg']
    make_source(tmp_path, "tar.gz", [*GOOD, *hostile])
    layout = run(make_config, tmp_path, "data.max_reject_fraction=0.2")
    assert [row["path"] for row in read_rejected(layout)] == [
        '\'=cmd()|"a",b\\n.jpg',
        'UTKFace/<script>"%.jpg',
        "UTKFace/\\udcff.jpg",
        "UTKFace/a\\r\\nb,c.jpg",
    ]


def test_too_many_rejected_names_write_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    make_source(tmp_path, "tar.gz", [*GOOD, *BAD])
    with pytest.raises(DataError) as caught:
        run(make_config, tmp_path)
    message = str(caught.value)
    assert "8 of 67 samples are rejected" in message
    assert "3 LABEL_RANGE, such as 'UTKFace/117_0_0_20170116174525125.jpg'" in message
    assert "1 NAME_CLASH" in message
    assert "JUNK" not in message
    assert "data.max_reject_fraction=0.01" in message
    assert "\n" not in message
    assert written(tmp_path) == []


def test_share_is_taken_without_junk_and_may_be_reached(make_config: MakeConfig, tmp_path: Path) -> None:
    junk = [f"UTKFace/._{i}" for i in range(200)]
    make_source(tmp_path, "tar.gz", [*GOOD[:9], "UTKFace/readme.txt", *junk])
    run(make_config, tmp_path, "data.max_reject_fraction=0.1")
    with pytest.raises(DataError, match="1 of 10 samples"):
        run(make_config, tmp_path, "data.max_reject_fraction=0.09")


@pytest.mark.parametrize("paths", [["UTKFace/.DS_Store"], ["UTKFace/readme.txt"]])
def test_set_without_one_usable_name(paths: list[str], make_config: MakeConfig, tmp_path: Path) -> None:
    make_source(tmp_path, "tar.gz", paths)
    with pytest.raises(DataError):
        run(make_config, tmp_path, "data.max_reject_fraction=1")
    assert written(tmp_path) == []


def test_failure_leaves_earlier_tables_as_they_were(make_config: MakeConfig, tmp_path: Path) -> None:
    make_source(tmp_path, "tar.gz", GOOD)
    layout = run(make_config, tmp_path)
    before = layout.manifest.read_bytes(), layout.rejected.read_bytes()
    archive = tmp_path / "UTKFace.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(IntegrityError, match="truncated"):
        run(make_config, tmp_path)
    assert (layout.manifest.read_bytes(), layout.rejected.read_bytes()) == before
    assert sorted(written(tmp_path)) == sorted([layout.manifest, layout.rejected])


def test_head_that_the_names_do_not_give(make_config: MakeConfig, tmp_path: Path) -> None:
    make_source(tmp_path, "tar.gz", GOOD)
    mood = (
        "+data.heads.mood={kind: categorical, classes: [calm, glad]}",
        "+loss.functions.mood=categorical_crossentropy",
        "+loss.weights.mood=1.0",
    )
    with pytest.raises(ConfigError, match=r"data\.heads names mood; the data has only labels for age, gender, race"):
        run(make_config, tmp_path, *mood)
    assert written(tmp_path) == []


def test_columns_follow_the_order_of_the_heads(make_config: MakeConfig) -> None:
    heads = make_config("data=utkface").data.heads
    turned = dict(reversed(heads.items()))
    assert list(read_labels(records(GOOD), turned).manifest) == ["path", *turned, "note"]


def test_summary_is_one_line(make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_source(tmp_path, "tar.gz", [*GOOD, "UTKFace/5_0_0_2017.jpg", *BAD])
    with caplog.at_level(logging.INFO, "manyheads.stages.parse"):
        run(make_config, tmp_path, "data.max_reject_fraction=0.2")
    (message,) = caplog.messages
    assert "60 samples accepted, 1 of them with a note; 8 rejected, LABEL_EMPTY 1, LABEL_MISSING 1" in message
    assert message.endswith("; 2 junk files")


@given(st.lists(st.text(st.characters(exclude_categories=[]), min_size=1), unique=True))
def test_no_names_are_lost_whatever_they_are(paths: list[str]) -> None:
    manifest, rejects = read_labels(records(sorted([*paths, *GOOD])), {})
    assert sorted([*manifest["path"], *(reject.path for reject in rejects)]) == sorted([*paths, *GOOD])
    for path in paths:
        assert not re.search("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", printable(path))


@pytest.mark.slow
@pytest.mark.skipif(ARCHIVE is None, reason=SKIP_REASON)
def test_real_names(make_config: MakeConfig, tmp_path: Path) -> None:
    layout = Paths(tmp_path)
    parse.run(make_config("data=utkface", f"data.path={ARCHIVE}"), layout, layout)
    manifest = read_manifest(layout.manifest, HEADS)
    assert len(manifest) == 20_178
    assert {row["path"]: row["code"] for row in read_rejected(layout)} == {
        "UTKFace/39_1_20170116174525125.jpg.chip.jpg": "LABEL_MISSING",
        "UTKFace/61_1_20170109142408075.jpg.chip.jpg": "LABEL_MISSING",
        "UTKFace/61_1_20170109150557335.jpg.chip.jpg": "LABEL_MISSING",
    }
    noted = manifest[manifest["note"] != ""].set_index("path")["note"].to_dict()
    assert noted == {
        "UTKFace/14_0_0_2017011022340900.jpg.chip.jpg": "timestamp of 16 digits",
        "UTKFace/24_0_1_20170116220224657 .jpg.chip.jpg": "ending ' .jpg.chip.jpg'",
        "UTKFace/28_1_2_201701161846515488.jpg.chip.jpg": "timestamp of 18 digits",
        "UTKFace/38_0_1_201701162330572788.jpg.chip.jpg": "timestamp of 18 digits",
    }
    # Counted in the names by other means: awk over `tar tf`.
    assert Counter(manifest["race"]) == {0: 8612, 1: 3868, 2: 2887, 3: 3376, 4: 1435}
    assert Counter(manifest["gender"]) == {0: 10577, 1: 9601}
    assert manifest["age"].sum() == 672_785
