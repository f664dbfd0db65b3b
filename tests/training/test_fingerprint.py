import logging
import os
from types import SimpleNamespace

import pytest

from manyheads.errors import IntegrityError
from manyheads.stages import train
from manyheads.training import fingerprint
from manyheads.training.checkpoint import Progress, save_checkpoint

NO_VARIABLES = SimpleNamespace(variables=[], optimizer=SimpleNamespace(variables=[]))


@pytest.fixture
def said(tiny_project, tiny_config, caplog):
    """Return a function from the overrides of a stopped training to what the next training says about it."""

    def said(*stopped, damaged=False):
        config = tiny_config(*stopped)
        path = fingerprint.checkpoint_of(config, tiny_project)
        save_checkpoint(path, NO_VARIABLES, Progress(fingerprint=fingerprint.fingerprint(config, tiny_project)))
        if damaged:
            path.write_bytes(b"damaged")
        caplog.clear()
        with caplog.at_level(logging.INFO):
            fingerprint.log_unfinished_training(tiny_config(), tiny_project)
        return caplog.text

    return said


def test_a_stopped_training_of_the_same_data_and_model_is_mentioned(said):
    assert "is of another training and is not used: train.epochs is 9 there, 3 here" in said("train.epochs=9")


@pytest.mark.parametrize("other", ["inputs.image.image_size=24", "model.widths=[24]", "data.heads.age.tolerance=3"])
def test_one_of_other_data_or_another_model_is_not(said, other):
    assert said("train.epochs=9", other) == ""


def test_the_latest_of_the_same_data_and_model_is_mentioned(said, tiny_project):
    said("train.epochs=9")
    for path in tiny_project.resume.glob("*.npz"):
        os.utime(path, (1, 1))
    assert "train.epochs is 5 there" in said("train.epochs=5")
    assert "train.epochs is 5 there" in said("train.epochs=7", "model.widths=[24]")


def test_the_same_training_is_not_mentioned(said):
    assert said() == ""


def test_a_damaged_checkpoint_of_another_training_stops_nothing(said):
    assert said("train.epochs=9", damaged=True) == ""


@pytest.mark.parametrize("name", ["samples", "splits"])
def test_without_packed_data_it_says_what_to_run(name, tiny_project, tiny_config):
    getattr(tiny_project, name).unlink()
    with pytest.raises(IntegrityError, match=r"is missing: run `dvc repro split`"):
        train.run(tiny_config(), tiny_project, tiny_project)
