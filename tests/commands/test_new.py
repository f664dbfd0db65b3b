"""``new`` writes a configuration that composes, places the data, and refuses what it cannot use in one line."""

import io
import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image

from manyheads.commands import new
from manyheads.config import composition, loading
from manyheads.errors import ManyheadsError
from manyheads.guessing import images, placing

ROOT = Path(__file__).parents[2]
RANDOM = np.random.default_rng(0)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return an empty project, which is the working folder."""
    folder = tmp_path / "project"
    (folder / "data/raw").mkdir(parents=True)
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "dvc.yaml", folder)
    monkeypatch.chdir(folder)
    return folder


def wine(path, n=60, **columns):
    table = {"fixed acidity": RANDOM.random(n), "pH": RANDOM.random(n), "quality": RANDOM.integers(3, 9, n)}
    pd.DataFrame(table | {"colour": ["red", "white"] * (n // 2)} | columns).to_csv(path, index=False)


def image(path, seed, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size).save(path)


def photographs(folder, classes=("cat", "dog"), n=20, ending="jpg"):
    for number, name in enumerate(classes):
        for i in range(n):
            image(folder / f"{name}/{i}.{ending}", 1000 * number + i)


def coco(folder, several=0, empty=0, n=20):
    """Write a COCO file for discs and squares, pictures without object, and pictures with two."""
    pictures, annotations = [], []
    for number in range(2 * n + empty + several):
        pictures.append({"id": number, "file_name": f"{number}.jpg", "width": 40, "height": 30})
        image(folder / f"images/{number}.jpg", number)
        objects = 1 if number < 2 * n else 0 if number < 2 * n + empty else 2
        annotations += [{"image_id": number, "category_id": number % 2, "bbox": [3, 4, 10, 12]}] * objects
    categories = [{"id": 0, "name": "disc"}, {"id": 1, "name": "square"}]
    path = folder / "labels.json"
    path.write_text(json.dumps({"images": pictures, "annotations": annotations, "categories": categories}))
    return path


def run(name, path, *options):
    new.main([name, "--from", str(path), *options])
    return composition.compose(Path.cwd(), [f"data={name}"])


def test_a_table_becomes_one_commented_file(project, tmp_path, capsys):
    wine(tmp_path / "wine.csv")
    config = run("wine", tmp_path / "wine.csv")
    assert list(config.data.heads) == ["quality", "colour"]
    assert config.data.columns == {"features": ("fixed acidity", "pH")}
    assert config.data.path == "data/raw/wine.csv"
    text = (project / "conf/data/wine.yaml").read_text("utf-8")
    assert text.startswith("# @package _global_\n# data=wine: a table of 60 rows")
    assert max(map(len, text.splitlines())) <= 120
    assert (project / "data/raw/wine.csv").samefile(tmp_path / "wine.csv")
    said = capsys.readouterr().out
    assert "colour         head, categorical       2 distinct; red, white" in said
    assert "next: make repro ARGS='data=wine'" in said
    assert sorted(path.name for path in (project / "data/raw").iterdir()) == ["wine.csv"]


def test_nothing_is_overwritten(project, tmp_path):
    wine(tmp_path / "wine.csv")
    run("wine", tmp_path / "wine.csv")
    before = (project / "conf/data/wine.yaml").read_text("utf-8")
    with pytest.raises(ManyheadsError, match=r"conf/data/wine\.yaml exists: choose another NAME, or remove the file"):
        run("wine", tmp_path / "wine.csv")
    (project / "conf/data/wine.yaml").unlink()
    with pytest.raises(ManyheadsError, match=r"data/raw/wine\.csv exists: use it with --from data/raw/wine\.csv"):
        run("wine", tmp_path / "wine.csv")
    assert run("wine", project / "data/raw/wine.csv").data.path == "data/raw/wine.csv"
    assert (project / "conf/data/wine.yaml").read_text("utf-8") == before


def test_class_folders_are_read_with_links_folders_above_and_other_files(project, tmp_path):
    photographs(tmp_path / "elsewhere")
    for part, numbers in (("train", range(14)), ("test", range(14, 20))):
        for name in ("cat", "dog"):
            (tmp_path / f"photos/{part}/{name}").mkdir(parents=True)
            for i in numbers:
                (tmp_path / f"photos/{part}/{name}/{i}.jpg").symlink_to(tmp_path / f"elsewhere/{name}/{i}.jpg")
    (tmp_path / "photos/readme.txt").write_text("mine")
    config = run("pets", tmp_path / "photos")
    assert config.data.heads["class"].class_names == ("cat", "dog")
    assert config.data.path == "data/raw/pets"
    placed = sorted(path.relative_to(project / "data/raw").as_posix() for path in project.glob("data/raw/*/*/*"))
    assert len(placed) == 40
    assert placed[0] == "pets/cat/test_14.jpg"
    assert (project / "data/raw" / placed[0]).samefile(tmp_path / "elsewhere/cat/14.jpg")


def test_a_folder_in_a_folder_and_other_files_of_json_do_no_harm(project, tmp_path):
    photographs(tmp_path / "photos/photos")
    (tmp_path / "photos/photos/cat/1.json").write_text("{")
    config = run("pets", tmp_path / "photos")
    assert len(list((project / config.data.path).glob("*/*"))) == 40
    # In its place it is read as it lies: the file that is no image is rejected.
    shutil.copytree(tmp_path / "photos", project / "data/raw/mine")
    config = run("again", project / "data/raw/mine")
    assert (config.data.path, config.data.max_reject_fraction) == ("data/raw/mine/photos", 0.03)


@pytest.mark.parametrize("ending", ["zip", "tar.gz"])
def test_class_folders_in_an_archive_stay_in_it(ending, project, tmp_path):
    photographs(tmp_path / "photos")
    shutil.make_archive(str(tmp_path / "x"), {"zip": "zip", "tar.gz": "gztar"}[ending], tmp_path, "photos")
    config = run("pets", tmp_path / f"x.{ending}")
    assert config.data.path == f"data/raw/pets.{ending}"
    assert config.inputs["image"].image_size == 16
    assert config.train.augment == 0.5


def test_a_table_with_paths_takes_the_files_that_it_names(project, tmp_path):
    photographs(tmp_path / "people", ("photos",), 30)
    rows = {
        "image": [f"photos/{i}.jpg" for i in range(29)],
        "age": RANDOM.integers(1, 90, 29),
        "sex": RANDOM.integers(0, 2, 29),
    }
    pd.DataFrame(rows).to_csv(tmp_path / "people/people.csv", index=False)
    config = run("people", tmp_path / "people/people.csv")
    assert {name: head.kind for name, head in config.data.heads.items()} == {"age": "regression", "sex": "binary"}
    assert config.data.path == "data/raw/people"
    names = {path.name for path in (project / "data/raw/people").rglob("*") if path.is_file()}
    assert names == {"people.csv", *(f"{i}.jpg" for i in range(29))}
    # In its place, the folder is used as it is.
    assert run("again", project / "data/raw/people/people.csv").data.path == "data/raw/people"
    with zipfile.ZipFile(tmp_path / "people.zip", "w") as archive:
        for path in sorted((tmp_path / "people").rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path))
    assert run("packed", tmp_path / "people.zip").data.path == "data/raw/packed.zip"


def test_coco_pictures_may_lie_in_a_folder_and_have_several_objects(project, tmp_path, capsys):
    config = run("shapes", coco(tmp_path / "shapes", several=3))
    assert config.data.heads["class"].class_names == ("disc", "square")
    assert config.data.max_reject_fraction == 0.07
    assert "3 BOX_SEVERAL" in capsys.readouterr().out
    assert (project / "data/raw/shapes/annotations.json").is_file()
    assert config.data.heads["box"].of == ""
    config = run("empty", coco(tmp_path / "empty", empty=20))
    assert config.data.heads["class"].class_names == ("nothing", "disc", "square")
    assert config.data.heads["box"].of == "class"


def test_a_class_that_no_split_can_have_is_left_out(project, tmp_path, capsys):
    """Twenty equal pictures are one duplicate group, which is in one subset."""
    photographs(tmp_path / "photos", ("cat", "dog"))
    for i in range(20):
        image(tmp_path / f"photos/empty/{i}.jpg", 9999)
    config = run("pets", tmp_path / "photos")
    assert config.data.heads["class"].class_names == ("cat", "dog")
    assert "class: too few different samples of empty" in capsys.readouterr().out


def test_equal_inputs_with_different_labels_are_no_duplicates(project, tmp_path, capsys):
    pd.DataFrame({"a": [0, 1] * 100, "b": [0, 0, 1, 1] * 50, "y": RANDOM.integers(0, 2, 200)}).to_csv(
        tmp_path / "x.csv", index=False
    )
    assert run("logic", tmp_path / "x.csv").split.method == "random"
    assert "so the split is random" in capsys.readouterr().out


def test_rejected_rows_are_counted(project, tmp_path, capsys):
    wine(tmp_path / "wine.csv", colour=["red"] * 27 + ["white"] * 28 + ["blue"] * 5)
    config = run("wine", tmp_path / "wine.csv")
    assert config.data.max_reject_fraction == 0.09
    assert "5 LABEL_RANGE, such as wine.csv/000056" in capsys.readouterr().out


def test_pictures_that_are_alike_by_nature_are_no_near_duplicates(project, tmp_path):
    for number in range(60):
        pixels = np.full((40, 40), 255, np.uint8)
        pixels[number % 8 * 4 : number % 8 * 4 + 9, 4:9] = number
        path = tmp_path / f"digits/{number % 2}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    config = run("digits", tmp_path / "digits")
    assert config.inputs["image"].duplicate_correlation > 0.985
    assert config.train.augment == 0  # a mirrored digit is none


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_a_stop_while_files_are_placed_leaves_nothing(stop, project, tmp_path, monkeypatch):
    photographs(tmp_path / "photos")
    placed = iter(range(10))
    link = placing._link

    def stopping(path, target):
        if next(placed, None) is None:
            raise stop
        return link(path, target)

    monkeypatch.setattr(placing, "_link", stopping)
    with pytest.raises((KeyboardInterrupt, ManyheadsError)):
        run("pets", tmp_path / "photos")
    assert not list((project / "data/raw").iterdir())
    assert not (project / "conf/data/pets.yaml").exists()


def test_a_stop_after_files_were_placed_leaves_nothing(project, tmp_path, monkeypatch):
    wine(tmp_path / "wine.csv")
    monkeypatch.setattr(new.rehearsal, "rehearse", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run("wine", tmp_path / "wine.csv")
    assert not list((project / "data/raw").iterdir())
    assert not (project / "conf/data/wine.yaml").exists()
    assert (tmp_path / "wine.csv").exists()


def test_on_another_disk_files_are_copied(project, tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(placing.os, "link", refuse)
    wine(tmp_path / "wine.csv")
    run("wine", tmp_path / "wine.csv")
    assert "copied from" in capsys.readouterr().out
    assert (project / "data/raw/wine.csv").read_bytes() == (tmp_path / "wine.csv").read_bytes()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


REFUSALS = {
    "missing": ("nothing.csv", None, "does not exist: give a table"),
    "no table": ("x.csv", b"\x89PNG\r\n\x1a\n\0\0", "is not UTF-8 text"),
    "empty": ("x.csv", "", "is empty"),
    "header": ("x.csv", "a,b\n", "and no rows"),
    "one column": ("x.csv", "a\n" + "1\n2\n" * 30, "no column is left as input"),
    "twice": ("x.csv", "a,a\n1,2\n", "has several columns 'a'"),
    "ragged": ("x.csv", "a,b\n1,2,3\n", "cannot be read as a table"),
    "no head": ("x.csv", "a,b\n" + "".join(f"n{i},2024-01-{i % 28 + 1:02}\n" for i in range(60)), "can be a head"),
    "few rows": ("x.csv", "a,y\n1,2\n2,3\n3,4\n", "the table has 3 rows: three subsets need"),
    "parquet": ("x.parquet", "a,b\n1,2\n", "cannot be read as a table"),
    "zip": ("x.zip", "no zip", "is not zip"),
    "tar": ("x.tar.gz", b"\x1f\x8b\x08\0 broken", "truncated or damaged"),
    "json": ("x.json", "{", "is no JSON"),
    "no coco": ("x.json", "{}", "is not a COCO file"),
    "ending": ("x.xlsx", b"PK", "is of an unknown kind"),
    "folder": ("x/readme.txt", "hello", "has neither images in folders"),
    "loose": ("x/1.jpg", b"", "in one folder and no labels"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_used_is_refused_in_one_line(case, project, tmp_path):
    name, content, message = REFUSALS[case]
    if content is not None:
        write(tmp_path / "given" / name, content)
    with pytest.raises(ManyheadsError, match=message) as refusal:
        run("mine", tmp_path / "given" / name.split("/")[0])
    assert "\n" not in str(refusal.value)
    assert not list((project / "data/raw").iterdir())
    assert not (project / "conf/data/mine.yaml").exists()


@pytest.mark.parametrize("name", ["sample", "Wine", "my-wine", "null", "class", "1st", ""])
def test_a_name_that_cannot_be_an_option_is_refused(name, project, tmp_path):
    wine(tmp_path / "wine.csv")
    with pytest.raises(ManyheadsError, match=r"cannot name an option|has no name: make new|exists: choose another"):
        run(name, tmp_path / "wine.csv")


def test_no_path_is_no_folder(project):
    """As in `make new NAME=wine` without FROM."""
    with pytest.raises(ManyheadsError, match="--from is empty: give a table"):
        run("wine", "")


def test_choices_are_of_columns(project, tmp_path):
    photographs(tmp_path / "photos")
    with pytest.raises(ManyheadsError, match="choose columns of a table"):
        run("pets", tmp_path / "photos", "--heads", "cat")


def test_git_must_leave_the_data_out(project, tmp_path):
    wine(tmp_path / "wine.csv")
    placing.subprocess.run(["git", "init", "-q"], check=True)
    with pytest.raises(ManyheadsError, match=r"git would commit data/raw/wine\.csv"):
        run("wine", tmp_path / "wine.csv")
    shutil.copy(ROOT / "data/raw/.gitignore", project / "data/raw")
    run("wine", tmp_path / "wine.csv")


TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", "NA", "?", "yes", "no", "1", "0.5", "1e400", "${x}", "a: b", "null", "ja/1.jpg"]
)
CELLS = st.one_of(
    st.lists(TEXTS, min_size=1, max_size=6),
    st.lists(st.integers(-(10**12), 10**12).map(str), min_size=1, max_size=40),
    st.lists(st.floats(allow_nan=False, allow_infinity=False).map(str), min_size=1, max_size=40),
    st.lists(st.integers(0, 3).map(str), min_size=1, max_size=4),
    st.just(["some words that are long enough", "and a few more words to read here"]),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return what an option of ``data`` composes to, to put other options in its place without Hydra, which is slow."""
    folder = tmp_path_factory.mktemp("base")
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / "data/raw").mkdir(parents=True)
    wine(folder / "wine.csv")
    before = Path.cwd()
    os.chdir(folder)
    try:
        new.main(["wine", "--from", "wine.csv"])
    finally:
        os.chdir(before)
    return yaml.safe_load(composition.compose_text(folder, ["data=wine"]))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    columns=st.dictionaries(
        st.text(max_size=10) | st.sampled_from(["label", "y", "path", "note"]), CELLS, min_size=1, max_size=5
    ),
    n=st.integers(1, 80),
)
def test_any_table_gives_one_line_or_a_valid_file(columns, n, base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    (folder / "conf/data").mkdir(parents=True)
    (folder / "conf/config.yaml").touch()
    shutil.copy(ROOT / "dvc.yaml", folder)

    def composed(root, name, text):
        values = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
        shuffled = {"method": "random"} if "override /split: random" in text else {}
        return loading.load(
            base | {key: values[key] for key in ("data", "inputs")} | {"train": base["train"] | values["train"]}
            | {"split": base["split"] | shuffled}
        )  # fmt: skip

    pd.DataFrame({name: [cells[i % len(cells)] for i in range(n)] for name, cells in columns.items()}).to_csv(
        folder / "any.csv", index=False, errors="surrogatepass"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(new, "_composed", composed)
        patch.chdir(folder)
        refusal = None
        try:
            new.main(["any", "--from", "any.csv"])
        except ManyheadsError as error:
            refusal = error
        written = (folder / "conf/data/any.yaml").exists()
        if refusal is not None:
            assert "\n" not in str(refusal)
            assert not written
            return
        text = (folder / "conf/data/any.yaml").read_text("utf-8")
        assert composed(folder, "any", text).data.heads


def test_the_correlation_is_that_of_all_images_not_of_the_sample():
    """In a sample of a hundredth, an image has a hundredth of its near duplicates."""
    prints = RANDOM.integers(0, 256, (200, 16, 16), dtype=np.uint8)
    prints[1::2] = np.clip(prints[::2].astype(int) + RANDOM.normal(0, 4, (100, 16, 16)), 0, 255)
    digests = [f"{i:064x}" for i in range(200)]
    assert images._correlation(digests, prints, 200)[1] == pytest.approx(1.0)
    assert images._correlation(digests, prints, 20_000)[1] == pytest.approx(100, rel=0.02)
    assert images._correlation(digests[::2], prints[::2], 200) == (0.985, 0.0)


def test_an_archive_with_a_link_is_refused(project, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        link = tarfile.TarInfo("x/a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link, io.BytesIO())
    with pytest.raises(ManyheadsError, match="symbolic link"):
        run("pets", tmp_path / "x.tar")
