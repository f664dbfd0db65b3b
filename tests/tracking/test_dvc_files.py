from pathlib import Path

import pytest
import yaml

from conftest import write_lock
from manyheads.errors import IntegrityError
from manyheads.tracking import dvc

ROOT = Path(__file__).parents[2]


@pytest.fixture
def locked(tiny_project, tiny_config):
    layout, config = tiny_project, tiny_config()
    write_lock(layout, config)
    return layout, config.model_dump(mode="json")


def test_data_as_locked_is_accepted(locked):
    layout, settings = locked
    dvc.require_data_as_locked(settings, layout.root)


def test_a_changed_split_or_pack_is_refused(locked):
    layout, settings = locked
    layout.splits.write_text(layout.splits.read_text().replace("test", "train", 1))
    with pytest.raises(IntegrityError, match=r"data/splits\.csv differs from dvc\.lock: run `dvc repro split`"):
        dvc.require_data_as_locked(settings, layout.root)


def test_a_missing_or_extra_packed_file_is_refused(locked):
    layout, settings = locked
    (layout.samples.parent / "more.npy").write_bytes(b"")
    with pytest.raises(IntegrityError, match="data/packed differs from"):
        dvc.require_data_as_locked(settings, layout.root)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        (
            "inputs.image.image_size=32",
            "inputs.image.image_size=16, but this configuration has inputs.image.image_size=32",
        ),
        ("split=random", "split.method=clean, but this configuration has split.method=random"),
        (
            "data.heads.age.tolerance=3",
            r"data.heads.age.tolerance=5, but this configuration has data.heads.age.tolerance=3",
        ),
    ],
)
def test_other_settings_than_the_data_was_made_with_are_refused(locked, tiny_config, override, named):
    layout, _ = locked
    with pytest.raises(IntegrityError, match=named):
        dvc.require_settings_as_locked(tiny_config(override).model_dump(mode="json"), layout.root)


def test_the_message_has_the_command_that_makes_the_data_of_the_overrides(locked, tiny_config):
    layout, _ = locked
    overrides = ["data=utkface", "+split.files.reviewed=my list.txt", "loss=age_heavy", "train.epochs=3"]
    settings = tiny_config("split=random").model_dump(mode="json")
    with pytest.raises(IntegrityError) as error:
        dvc.require_settings_as_locked(settings, layout.root, overrides)
    command = "python -m manyheads params data=utkface '+split.files.reviewed=my list.txt' && dvc repro split"
    assert f"run `{command}`" in str(error.value)


def test_data_that_was_made_without_dvc_is_not_that_of_the_lock(locked):
    layout, _ = locked
    assert not dvc.is_data_of_lock(layout.root)
    lock = yaml.safe_load((layout.root / "dvc.lock").read_text())
    lock["stages"]["split"]["deps"] = [{"path": "data/packed/samples.csv", "md5": dvc.dvc_digest(layout.samples)}]
    (layout.root / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert dvc.is_data_of_lock(layout.root)
    layout.samples.write_text(layout.samples.read_text() + "\n")
    assert not dvc.is_data_of_lock(layout.root)
    layout.samples.unlink()
    assert not dvc.is_data_of_lock(layout.root)


def test_settings_of_the_training_may_differ(locked, tiny_config):
    layout, _ = locked
    config = tiny_config("seed=4", "loss=age_heavy", "train.epochs=9")
    dvc.require_data_as_locked(config.model_dump(mode="json"), layout.root)


def test_without_a_lock_it_says_what_to_run(tiny_project, tiny_config):
    with pytest.raises(IntegrityError, match="dvc repro split"):
        dvc.require_data_as_locked(tiny_config().model_dump(mode="json"), tiny_project.root)


def test_the_code_of_a_stage_is_what_dvc_watches():
    code = dvc.code_digests("train", ROOT)
    assert {"training/run.py", "training/loop.py", "encoders/compact.py"} <= set(code)
    assert "tracking/runs.py" not in code


def test_digests_are_those_of_dvc(tmp_path):
    """DVC's own computation, on a file and on a folder with a subfolder."""
    from dvc.repo import Repo

    repo = Repo.init(tmp_path, no_scm=True)
    (tmp_path / "folder/b").mkdir(parents=True)
    for name in ("folder/z.txt", "folder/a.txt", "folder/b/c.txt", "file.txt"):
        (tmp_path / name).write_text(name)
    for name in ("folder", "file.txt"):
        (stage,) = repo.add(str(tmp_path / name))
        assert dvc.dvc_digest(tmp_path / name) == stage.outs[0].hash_info.value
    repo.close()
