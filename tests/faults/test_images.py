"""Images in rare codings and of one colour, copies of the data, and what must not change its tables."""

import base64
import io
import logging
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import compose, jpeg
from manyheads.data import tables
from manyheads.inputs.image_files import decode
from manyheads.paths import Paths
from manyheads.stages import pack, parse

SETTINGS = ("data=utkface", "inputs.image.image_size=16", "data.path=data/raw/faces.zip")

# 16 x 16 pixels that `cjpeg -arithmetic` and `cjpeg -sample 4x1` wrote; Pillow writes neither.
ARITHMETIC = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUV"
    "DA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"
    "FBT/yQARCAAQABADASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/ANkHybTXkTDAAnEqbdEdU+M/Wlx36LmYWGUAI3eo"
    "EoRQBlD/2Q=="
)
QUARTERS = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUV"
    "DA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"
    "FBT/wAARCAAQABADAUEAAhEBAxEB/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQID"
    "AAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlq"
    "c3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3"
    "+Pn6/8QAHwEAAwEBAQEBAQEBAQAAAAAAAAECAwQFBgcICQoL/8QAtREAAgECBAQDBAcFBAQAAQJ3AAECAxEEBSExBhJBUQdhcRMiMoEI"
    "FEKRobHBCSMzUvAVYnLRChYkNOEl8RcYGRomJygpKjU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6goOEhYaHiImK"
    "kpOUlZaXmJmaoqOkpaanqKmqsrO0tba3uLm6wsPExcbHyMnK0tPU1dbX2Nna4uPk5ebn6Onq8vP09fb3+Pn6/9oADAMBAAIRAxEAPwD5"
    "20DwL9393+lek+H/AAL9393+lFFexCtofr3C+af8J0dTvtA8C/d/d/pXpPh/wL9393+lFFeHCtofj3C+af8ACdHU/9k="
)


def smooth():
    y, x = np.mgrid[0:16, 0:16]
    return np.stack([x * 10 + 40, y * 10 + 40, (x + y) * 4 + 60], axis=-1).astype(np.uint8)


def encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


CODINGS = {
    "arithmetic": base64.b64decode("".join(ARITHMETIC)),
    "4:1:1": base64.b64decode("".join(QUARTERS)),
    "restart markers": encoded(smooth(), "JPEG", quality=90, restart_marker_blocks=1),
}


@pytest.mark.parametrize("coding", CODINGS)
def test_row_38_a_rare_coding_gives_the_pixels_of_a_plain_file(coding):
    pixels, note, _ = decode(CODINGS[coding], 16)
    assert note == ""
    assert np.abs(pixels.astype(int) - smooth()).max() <= (40 if coding == "4:1:1" else 24)
    assert np.abs(pixels.astype(int) - smooth()).mean() < 6


def packed(root, files):
    """Parse and pack files of a zip archive, and return the table of samples and the rejected names."""
    layout, heads = Paths(root), compose(*SETTINGS).data.heads
    archive = root / "data/raw/faces.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as target:
        for path, data in files.items():
            target.writestr(path, data)
    for stage in (parse, pack):
        stage.run(compose(*SETTINGS), layout, layout)
    return tables.read_samples(layout.samples, heads), layout.rejected.read_text()


def test_row_11_a_second_copy_of_the_data_and_junk(tmp_path, caplog):
    names = {f"{seed + 1}_{seed % 2}_{seed % 5}_2017011617452{seed:04d}.jpg": jpeg(seed) for seed in range(5)}
    files = {f"UTKFace/UTKFace/{name}": data for name, data in names.items()}
    files |= {f"UTKFace/crop_part1/{name}": data for name, data in names.items()}
    junk = ["__MACOSX/UTKFace/._1_1_1_20170116174520001.jpg", "UTKFace/.DS_Store", "UTKFace/Thumbs.db"]
    with caplog.at_level(logging.INFO):
        samples, rejected = packed(tmp_path, files | dict.fromkeys(junk, b"x"))
    assert sorted(samples["path"]) == sorted(files)
    by_group = samples["path"].str.rpartition("/")[2].groupby(samples["group"])
    assert by_group.size().tolist() == [2] * 5
    assert by_group.nunique().tolist() == [1] * 5
    assert rejected.count("JUNK") == 3
    assert "3 junk files" in caplog.text


def test_row_40_images_of_one_colour_are_kept_with_a_note(tmp_path):
    files = {f"{i + 1}_0_0_2017.jpg": jpeg(i) for i in range(3)}
    for age, value in ((50, 0), (51, 255), (52, 130), (53, 131)):
        files[f"{age}_0_0_2017.jpg"] = encoded(np.full((32, 32, 3), value, np.uint8))
    samples, rejected = packed(tmp_path, files)
    assert len(samples) == len(files)
    assert samples["note"].str.contains("almost one colour").tolist() == (samples["age"] >= 50).tolist()
    assert samples["group"].nunique() == len(files)
    assert rejected.count("\n") == 1


CODE = """
import hashlib, os, sys
from pathlib import Path
from manyheads.config.composition import compose
from manyheads.paths import Paths, project_root
from manyheads.stages import pack, parse, source, split

if __name__ == "__main__":
    layout, config = Paths(Path.cwd()), compose(project_root(), ["inputs.image.image_size=16"])
    for stage in (source, parse, pack, split):
        stage.run(config, layout, layout)
    for path in (layout.manifest, layout.rejected, layout.samples, layout.packed("image"), layout.splits):
        print(hashlib.sha256(path.read_bytes()).hexdigest())
"""


@pytest.mark.slow
def test_row_71_tables_and_split_do_not_depend_on_hashes_and_threads(tmp_path):
    root, said = Path(__file__).parents[2], set()
    for seed, threads in (("1", "1"), ("77", "3")):
        folder = tmp_path / seed
        folder.mkdir()
        for name in ("conf", "dvc.yaml", "params.yaml"):
            (folder / name).symlink_to(root / name)
        (folder / "run.py").write_text(CODE)
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "OMP_NUM_THREADS": threads,
            "PYTHONPATH": str(root / "src"),
        }
        done = subprocess.run([sys.executable, "run.py"], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.add(done.stdout)
    assert len(said) == 1
