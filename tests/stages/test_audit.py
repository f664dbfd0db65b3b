import numpy as np
import pandas as pd
import pytest

import stand_in_weights
from conftest import TWO_BLOCKS, make_tiny_project
from manyheads.data.subsets import load_subset
from manyheads.errors import ConfigError
from manyheads.stages import audit, split
from manyheads.training import label_issues, out_of_fold

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def planted(tmp_path_factory, migrated_store, tiny_config):
    """Return a project in which a few labels were changed, and which."""
    layout = make_tiny_project(tmp_path_factory.mktemp("project"), migrated_store)
    samples, splits = pd.read_csv(layout.samples), pd.read_csv(layout.splits)
    train = np.flatnonzero(splits["subset"] == "train")
    wrong = np.random.default_rng(5).choice(train, 8, replace=False)
    samples.loc[wrong, "race"] = (samples.loc[wrong, "race"] + 2) % 5
    samples.to_csv(layout.samples, index=False)
    config = tiny_config(*TWO_BLOCKS, "audit.folds=3", "audit.epochs=25")
    audit.run(config, layout, layout)
    return layout, config, set(samples.loc[wrong, "path"])


def test_planted_wrong_labels_come_first(planted):
    layout, _, wrong = planted
    issues = pd.read_csv(layout.label_issues)
    race = issues[issues["head"] == "race"]
    assert len(wrong & set(race["path"].head(12))) >= 6  # by chance, one such dozen in two has any
    assert race["rank"].tolist() == list(range(1, len(race) + 1))
    assert race["disagreement"].is_monotonic_decreasing
    assert set(issues["head"]) == {"age", "race", "gender"}


def test_the_test_subset_is_not_read(planted):
    layout, _, _ = planted
    issues, splits = pd.read_csv(layout.label_issues), pd.read_csv(layout.splits)
    assert set(issues["subset"]) == {"train", "validation"}
    assert not set(issues["path"]) & set(splits.loc[splits["subset"] == "test", "path"])


def test_duplicates_share_a_fold():
    groups = [f"{i // 3}" for i in range(300)]
    folds = out_of_fold.fold_of(groups, 4, 1)
    assert set(folds) == {0, 1, 2, 3}
    assert all(len(set(folds[i * 3 : i * 3 + 3])) == 1 for i in range(100))
    assert max(np.bincount(folds)) - min(np.bincount(folds)) <= 3


def test_an_interrupted_audit_continues_and_leaves_no_checkpoint(tmp_path, migrated_store, tiny_config, monkeypatch):
    layout, config = make_tiny_project(tmp_path, migrated_store), tiny_config("audit.folds=2", "audit.epochs=2")
    calls = interrupted_in_the_second_fold(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        audit.run(config, layout, layout)
    assert list(layout.resume.glob("audit-*.npz"))
    audit.run(config, layout, layout)
    assert calls == [0, 1, 0, 1]
    assert not list(layout.resume.glob("audit-*.npz"))
    assert set(pd.read_csv(layout.label_issues)["subset"]) == {"train", "validation"}


def interrupted_in_the_second_fold(monkeypatch):
    """Stop the second training of a fold, once, and return the list of the folds that were begun."""
    real, calls = out_of_fold.train_without, []

    def once(*args):
        calls.append(args[-1])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(out_of_fold, "train_without", once)
    return calls


@pytest.fixture
def frozen(tmp_path, migrated_store, make_config, monkeypatch):
    """Return a project whose images a frozen network with random weights reads, and its settings."""
    layout = make_tiny_project(tmp_path, migrated_store)
    stand_in_weights.install(monkeypatch, tmp_path)
    monkeypatch.setattr(out_of_fold, "fastest_precision", lambda: "float32")
    monkeypatch.setitem(out_of_fold.ON_FROZEN_FEATURES, "batch_size", 16)
    config = make_config(
        "data=utkface", "model=face", "model.hidden=8", "inputs.image.image_size=16", "audit.folds=2", "audit.epochs=2",
        "train.augment=0", "train.cutmix=0",
    )  # fmt: skip
    return layout, config


def test_an_interrupted_audit_on_features_continues_and_gives_what_the_whole_network_gives(frozen, monkeypatch):
    layout, config = frozen
    train, validation = (
        load_subset(layout, config.data.heads, config.inputs, name) for name in ("train", "validation")
    )
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        interrupted_in_the_second_fold(patched)
        out_of_fold.predict_out_of_fold(config, layout, train, validation)
    assert len(list(layout.resume.glob("audit-*.npz"))) == 1
    of_train, of_validation = out_of_fold.predict_out_of_fold(config, layout, train, validation)
    fold = out_of_fold.fold_of(train.groups, 2, config.seed)
    whole = []
    for number in range(2):
        out_of_fold.fold_checkpoint(config, layout, number).unlink()
        predictor = out_of_fold.train_without(config, layout, train, fold == number, validation, number)
        whole.append(predictor(validation.inputs, validation.rows))
        for name, outputs in predictor(train.inputs, train.rows[fold == number]).items():
            np.testing.assert_allclose(of_train[name][fold == number], outputs, rtol=1e-3, atol=1e-4)
            assert outputs.std(axis=0).max() > 1e-2  # the stand-in tells samples apart
    for name, outputs in of_validation.items():
        np.testing.assert_allclose(outputs, (whole[0][name] + whole[1][name]) / 2, rtol=1e-3, atol=1e-4)


def test_the_audit_has_the_losses_of_the_training_but_no_adjusted_logits(make_config):
    heads = make_config("data=utkface").data.heads
    assert heads["age"].audit_loss("soft_label") == "soft_label"
    assert heads["race"].audit_loss("binary_crossentropy") == "binary_crossentropy"
    assert heads["race"].audit_loss("logit_adjusted") == "categorical_crossentropy"


def test_no_folds_are_no_audit(tiny_project, tiny_config):
    audit.run(tiny_config("audit.folds=0"), tiny_project, tiny_project)
    assert pd.read_csv(tiny_project.label_issues).columns.tolist() == label_issues.COLUMNS
    with pytest.raises(ConfigError, match="folds is 1"):
        tiny_config("audit.folds=1")


def test_a_reviewed_list_leaves_samples_out_by_rule(tmp_path, migrated_store, make_config):
    layout = make_tiny_project(tmp_path, migrated_store)
    before = pd.read_csv(layout.samples)["path"].tolist()
    (tmp_path / "reviewed.txt").write_text("\n".join(before[:2]) + "\n")
    config = make_config("+split.files.reviewed=reviewed.txt")
    split.run(config, layout, layout)
    splits = pd.read_csv(layout.splits).set_index("path")
    assert splits.loc[before[:2], "rule"].tolist() == ["reviewed"] * 2
    assert splits.loc[before[:2], "subset"].tolist() == ["excluded"] * 2
    assert (splits["subset"] == "excluded").sum() == 2
