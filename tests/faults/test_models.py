"""Models that somebody made to read, write or run something else, and inputs without an end."""

import json
import zipfile

import h5py
import numpy as np
import pytest

from conftest import compose
from manyheads.commands import predict, saved_model
from manyheads.errors import IntegrityError
from manyheads.modeling import saving
from serving_models import save_untrained
from stored_models import record_run

SETTINGS = compose("inputs.image.image_size=16", "model.stem=[8]", "model.widths=[8,16]", "model.blocks=[1,1]")


def rewrite(folder, change):
    """Change the members of a model, and make its digest fit, as an attacker would."""
    path = folder / "model.keras"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    card = folder / "model.json"
    values = json.loads(card.read_text())
    values["digest"] = saving._digest(values, path)
    card.write_text(json.dumps(values))


def external_link(file, name, data, folder):
    file[name] = h5py.ExternalLink(str(folder / "other.h5"), "x")


def external_bytes(file, name, data, folder):
    kept = [(str(folder / "other.h5"), 0, h5py.h5f.UNLIMITED)]
    file.create_dataset(name, shape=data.shape, dtype=data.dtype, external=kept)


def virtual(file, name, data, folder):
    layout = h5py.VirtualLayout(shape=data.shape, dtype=data.dtype)
    layout[...] = h5py.VirtualSource(str(folder / "other.h5"), "x", shape=data.shape)
    file.create_virtual_dataset(name, layout)


def huge(file, name, data, folder):
    file.create_dataset(name, shape=(10**6, 10**6, 10**3), dtype="f4", chunks=(1000, 1000, 1))


def missing(file, name, data, folder):
    file[name] = h5py.SoftLink("/nothing")


@pytest.mark.parametrize("attack", [external_link, external_bytes, virtual, huge, missing])
@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
def test_row_74_weights_that_point_elsewhere_or_are_huge_are_refused(attack, tmp_path):
    save_untrained(tmp_path, SETTINGS)
    weights = tmp_path / "weights.h5"

    def change(members):
        weights.write_bytes(members["model.weights.h5"])
        with h5py.File(weights, "r+") as file:
            found = []
            file.visititems(lambda name, item: found.append(name) if getattr(item, "ndim", 0) else None)
            data = file[found[0]][()]
            with h5py.File(tmp_path / "other.h5", "w") as other:
                other["x"] = np.full_like(data, 42)
            del file[found[0]]
            attack(file, found[0], data, tmp_path)
        members["model.weights.h5"] = weights.read_bytes()

    rewrite(tmp_path, change)
    with pytest.raises(IntegrityError, match=r"model\.keras cannot be loaded .*: train it again") as caught:
        saving.load(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.filterwarnings("ignore:Skipping invalid path:UserWarning")
def test_row_74_a_member_that_climbs_out_is_not_unpacked(tmp_path, monkeypatch):
    folder = tmp_path / "a/b/model"
    folder.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(folder.parent))
    save_untrained(folder, SETTINGS)
    rewrite(folder, lambda members: members.update({"../evil": b"x", "assets/../../../evil": b"x", "/evil": b"x"}))
    saving.load(folder)
    assert not list(tmp_path.rglob("evil"))


EVIL = "from pathlib import Path\nPath(__file__).with_name('canary').touch()\n\n\ndef _load_pyfunc(path):\n    pass\n"


@pytest.mark.slow
def test_row_75_an_mlmodel_with_foreign_code_runs_nothing(tiny_project, monkeypatch):
    root = tiny_project.root
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(root)
    save_untrained(root / "given", SETTINGS)
    run_id = record_run(root, SETTINGS, root / "given", None)
    (description,) = (root / "mlruns").rglob("MLmodel")
    (root / "evil.py").write_text(EVIL)
    (description.parent / "evil.py").write_text(EVIL)
    text = description.read_text()
    start = text.index("loader_module: ") + len("loader_module: ")
    description.write_text(text[:start] + "evil" + text[text.index("\n", start) :])
    assert saved_model.find(run_id).load().card.digest == saving.read_card(root / "given").digest
    assert not list(root.rglob("canary"))


def test_row_91_a_link_to_an_endless_device_is_a_row(tmp_path, capsys):
    save_untrained(tmp_path, SETTINGS)
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    (tmp_path / "good.png").write_bytes(SETTINGS.inputs["image"].example)
    predict.main([str(tmp_path / "endless.jpg"), str(tmp_path / "good.png"), "--model", str(tmp_path)])
    endless, good = capsys.readouterr().out.splitlines()[1:]
    assert "IO_ERROR" in endless
    assert "IO_ERROR" not in good
