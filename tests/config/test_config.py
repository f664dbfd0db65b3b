import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from manyheads.config import composition, loading
from manyheads.encoders.base import TRUNK
from manyheads.errors import ConfigError
from manyheads.modeling.objective import MIXUP

ROOT = Path(__file__).parents[2]
NOT_IN_DEFAULTS = {"sweep", "search"}
GROUPS = sorted(path for path in (ROOT / "conf").glob("*/*.yaml"))
DATASETS = [path.stem for path in (ROOT / "conf/data").glob("*.yaml")]


def test_params_yaml_is_what_conf_composes_to():
    assert (ROOT / "params.yaml").read_text(encoding="utf-8") == composition.compose_text(ROOT)


def test_params_yaml_is_byte_for_byte_what_dvc_writes(tmp_path):
    """DVC composes with these calls in ``dvc exp run``; another text would change with every experiment."""
    from dvc.utils.hydra import compose_and_dump

    out = tmp_path / "params.yaml"
    overrides = ["loss=age_heavy", "train.learning_rate=1e-5"]
    compose_and_dump(out, str(ROOT / "conf"), None, "config", str(ROOT), overrides)
    assert out.read_text(encoding="utf-8") == composition.compose_text(ROOT, overrides)


@pytest.mark.parametrize("option", GROUPS, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_every_option_composes(option):
    group, name = option.parent.name, option.stem
    overrides = [f"{'+' if group in NOT_IN_DEFAULTS else ''}{group}={name}"]
    if (group, name) == ("split", "listed"):
        overrides += ["+split.files.train=a.csv", "+split.files.test=b.csv"]
    # An option that is named after a dataset is for that one.
    overrides += [f"data={data}" for data in DATASETS if group != "data" and name.split("_")[0] == data]
    assert composition.compose(ROOT, overrides)


@pytest.mark.parametrize("option", GROUPS, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_every_option_opens_with_what_it_is(option):
    text = option.read_text(encoding="utf-8").removeprefix("# @package _global_\n")
    group = option.parent.name
    assert text.startswith(f"# {'+' if group in NOT_IN_DEFAULTS else ''}{group}={option.stem}")


@pytest.mark.parametrize("option", [path for path in GROUPS if path.parent.name == "sweep"], ids=lambda path: path.stem)
def test_a_sweep_names_its_command_trials_and_nothing_but_what_is_swept(option):
    """Settings of its own would be missing in the command that promotes a trial."""
    text = option.read_text(encoding="utf-8")
    values = OmegaConf.to_container(OmegaConf.load(option))
    lists = values["hydra"]["sweeper"]["params"].values()
    assert values == {"hydra": {"mode": "MULTIRUN", "sweeper": {"params": values["hydra"]["sweeper"]["params"]}}}
    assert f": {math.prod(len(str(each).split(',')) for each in lists)} trials" in text
    assert re.search(r"^#   (make sweep|python -m manyheads train -m)", text, re.MULTILINE)
    assert "minutes" in text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lrr=1", "unknown setting 'train.lrr' - did you mean 'train.learning_rate'?"),
        ("train.epoch=1", "unknown setting 'train.epoch' - did you mean 'train.epochs'?"),
        ("+train.epoch=1", "unknown key 'train.epoch' - did you mean 'train.epochs'?"),
        ("loss=agehevy", "loss has no option 'agehevy' - did you mean 'age_heavy'?"),
        ("train.learning_rate=-1", "'train.learning_rate': input should be greater than 0, got -1"),
        ("train.learning_rate=nan", "'train.learning_rate': input should be a finite number, got nan"),
        ("train.learning_rate=inf", "'train.learning_rate': input should be a finite number, got inf"),
        ("train.epochs=0", "'train.epochs': input should be greater than 0, got 0"),
        ("train.batch_size=0", "'train.batch_size'"),
        ("train.epochs=three", "'train.epochs': input should be a valid integer"),
        ("inputs.image.image_size=0", "'inputs.image.image_size': input should be greater than or equal to 16, got 0"),
        ("split.test=0.9", "train, validation and test must add up to 1, got 1.7"),
        ("+loss.weights.zage=1", "loss.weights names zage; the heads are age, gender and race"),
        ("loss.weights.age=-1", "'loss.weights.age': input should be greater than or equal to 0, got -1"),
        ("loss.functions.race=mse", "loss.functions.race is 'mse'; this head takes"),
        ("loss.weights={age: 0, race: 0, gender: 0}", "all 0"),
        ("model.widths=[8]", "widths and blocks must be equally long"),
        ("data.heads.age.minimum=200", "'data.heads.age': minimum, bins and maximum must increase"),
        ("split=listed", "method 'listed' needs files for test and train"),
        ("+data.heads.age._target_=os.system", "unknown key 'data.heads.age._target_'"),
    ],
)
def test_bad_settings_are_named_in_one_line(override, message):
    with pytest.raises(ConfigError) as caught:
        composition.compose(ROOT, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "chosen", [[], ["model=face"], ["model=pretrained", "model.weights=random"]], ids=["small", "frozen", "random"]
)
def test_heads_first_is_refused_where_no_pretrained_layer_learns(chosen):
    with pytest.raises(ConfigError, match=r"train\.heads_first is for a pretrained network .*: set it to 0$"):
        composition.compose(ROOT, [*chosen, "train.heads_first=2"])
    assert composition.compose(ROOT, ["model=face", "model.frozen_blocks=4", "train.heads_first=2"])


@pytest.mark.parametrize("system", ["posts", "objects"], ids=["texts", "boxes"])
def test_mixup_is_refused_where_inputs_or_labels_cannot_be_mixed(system):
    with pytest.raises(ConfigError, match=r"train\.mixup cannot mix \w+: set it to 0"):
        composition.compose(ROOT, [f"experiment={system}", "train.mixup=0.2"])


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        (["experiment=posts"], "cannot cut posts"),
        (["experiment=objects"], "cannot cut box"),
        (["data=utkface", "model=face", "train.augment=0"], "cuts images, but their features are computed once"),
    ],
    ids=["texts", "boxes", "frozen"],
)
def test_cutmix_is_refused_where_nothing_can_be_cut(chosen, reason):
    with pytest.raises(ConfigError, match=rf"train\.cutmix {reason}: set it to 0$"):
        composition.compose(ROOT, [*chosen, "train.mixup=0", "train.cutmix=0.5"])


@pytest.mark.parametrize("name", [MIXUP, TRUNK])
def test_no_head_and_no_input_has_a_name_that_the_training_uses(name):
    for key in (f"+inputs.{name}={{kind: numbers}}", f"+data.heads.{name}={{kind: categorical, classes: [a, b]}}"):
        with pytest.raises(ConfigError, match="should match pattern"):
            composition.compose(ROOT, [key])


def test_augmentation_is_refused_where_features_are_computed_once():
    with pytest.raises(ConfigError, match=r"train\.augment does nothing .*: set it to 0, or let blocks learn"):
        composition.compose(ROOT, ["model=face", "train.augment=0.5"])


@pytest.mark.parametrize("text", ["1e-5", "'1e-5'", "1.0e-05", "0.00001"])
def test_a_learning_rate_arrives_as_a_number(text, tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text(composition.compose_text(ROOT).replace("learning_rate: 0.003", f"learning_rate: {text}"))
    assert loading.read_params(params).train.learning_rate == 1e-5
    composed = composition.compose(ROOT, [f"train.learning_rate={text}"])
    assert composed.train.learning_rate == 1e-5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "'seed' is missing"),
        ("seed: [", "is not YAML"),
        ("seed: 1\nseed: 2\n", "stands twice"),
        ("a: 1\n", "unknown key 'a'"),
    ],
)
def test_a_broken_params_file_is_named(content, message, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"params\.yaml") as caught:
        loading.read_params(path)
    assert message in str(caught.value)


def test_a_missing_params_file_says_how_to_make_it(tmp_path):
    with pytest.raises(ConfigError, match="python -m manyheads params"):
        loading.read_params(tmp_path / "params.yaml")


def test_loading_runs_no_code(tmp_path):
    canary = tmp_path / "canary"
    path = tmp_path / "params.yaml"
    path.write_text(f"seed: !!python/object/apply:os.system ['touch {canary}']\n")
    with pytest.raises(ConfigError):
        loading.read_params(path)
    assert not canary.exists()


def test_check_tells_what_differs(tmp_path):
    command = [sys.executable, "-m", "manyheads", "params", "--check", "train.epochs=99"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "+  epochs: 99" in done.stdout
    assert "make params" in done.stderr


@pytest.mark.parametrize(
    ("classes", "further", "column"),
    [("[a, fine]", ["race_fine"], "race_fine"), ("[a, label]", [], "race_label")],
)
def test_heads_and_classes_whose_columns_would_be_one_are_refused(classes, further, column):
    overrides = [f"data.heads.race.classes={classes}"]
    for name in further:
        overrides.append(f"+data.heads.{name}={{kind: categorical, classes: [x, y]}}")
        overrides += [f"+loss.functions.{name}=categorical_crossentropy", f"+loss.weights.{name}=1"]
    with pytest.raises(ConfigError, match=f"has the column {column} that"):
        composition.compose(ROOT, overrides)


def test_the_option_with_the_data_of_params_is_found(tmp_path):
    """Without it, the next `dvc exp run` would take the default data."""
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    for chosen, option in (
        ("data=utkface", "data=utkface"),
        ("experiment=posts", "experiment=posts"),
        ("seed=2", None),
    ):
        (tmp_path / "params.yaml").write_text(composition.compose_text(ROOT, [chosen]))
        assert composition.option_with_data(tmp_path) == option


def test_heads_without_a_loss_or_a_weight_have_the_default_of_their_kind(wine_project):
    loss = composition.compose(wine_project, ["data=wine"]).loss
    assert loss.functions == {"quality": "mae", "colour": "binary_crossentropy"}
    assert loss.weights == {"quality": 1, "colour": 1}
    assert "functions: default" in composition.compose_text(wine_project, ["data=wine"])


def test_the_loss_and_the_weight_of_a_head_are_settable_where_the_option_names_none(wine_project):
    overrides = ["data=wine", "loss.weights.quality=3", "loss.functions.quality=mse"]
    loss = composition.compose(wine_project, overrides).loss
    assert loss.functions == {"quality": "mse", "colour": "binary_crossentropy"}
    assert loss.weights == {"quality": 3, "colour": 1}
    taken = composition.as_hydra_takes(wine_project, overrides)
    assert taken == ["data=wine", "++loss.weights.quality=3", "++loss.functions.quality=mse"]
    assert composition.compose(wine_project, taken).loss == loss
    assert composition.as_hydra_takes(wine_project, ["loss.weights.age=3"]) == ["loss.weights.age=3"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.weights.qualty=3", "unknown setting 'loss.weights.qualty' - did you mean 'loss.weights.quality'?"),
        (
            "loss=age_heavy",
            "loss=age_heavy: loss.functions names age, gender and race; the heads are colour and quality; what fits: "
            "loss=default",
        ),
        (
            "model=small",
            "model.encoder=compact takes one image, inputs has features (numbers); what fits: model=default",
        ),
        (
            "+data.columns.qualty=Quality",
            "data.columns names 'qualty', which is no input and no head - did you mean 'quality'?",
        ),
    ],
)
def test_an_option_that_does_not_fit_names_those_that_do(override, message, wine_project):
    with pytest.raises(ConfigError) as caught:
        composition.compose(wine_project, ["data=wine", override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("chosen", [[], ["data=utkface"], ["experiment=posts"], ["experiment=hour"], ["split=listed"]])
def test_debug_wins_over_data_and_experiment_and_a_single_value_wins_over_debug(chosen, make_config):
    lists = ["+split.files.train=a", "+split.files.test=b"] if chosen == ["split=listed"] else []
    fast = make_config(*chosen, *lists, "debug=fast", "train.batch_size=8")
    assert (fast.split.limit, fast.train.epochs, fast.train.batch_size) == (100, 1, 8)
    overfit = make_config("debug=overfit", *chosen, *lists)
    assert overfit.train.overfit
    assert (overfit.train.augment, overfit.train.weight_decay, overfit.train.flip_tta) == (0, 0, False)
    transfer = composition.compose(ROOT, ["experiment=transfer", "debug=overfit"])
    assert (transfer.train.mixup, transfer.train.heads_first) == (0, 0)
    assert (overfit.train.mixup, overfit.train.cutmix) == (0, 0)
    assert fast.tracking.experiment == overfit.tracking.experiment != make_config(*chosen, *lists).tracking.experiment


@pytest.mark.parametrize(
    ("path", "title"),
    [("data/raw/wine.csv", "wine"), ("data/raw/UTKFace.tar.gz", "utkface"), ("data/raw/pets", "pets")],
)
def test_data_of_ones_own_has_the_title_of_its_file(path, title):
    assert composition.compose(ROOT, [f"data.path={path}"]).data.title == title
