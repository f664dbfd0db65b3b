"""Every system is exported to every format, and what does not answer as the model does is refused."""

import functools
import json
import re
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from builders import SMALL_SYSTEMS, named, objective_for
from conftest import ROOT, make_tiny_project
from manyheads.commands import export as export_command
from manyheads.commands import predict
from manyheads.data.subsets import Subset
from manyheads.datasets.documentation import synthetic
from manyheads.encoders import CompactEncoder, LateFusionEncoder, PretrainedEncoder
from manyheads.errors import ConfigError, IntegrityError, MachineError
from manyheads.exporting import export as exporting
from manyheads.exporting.formats import FORMATS
from manyheads.heads import Binary, Box, Categorical, LabelStatistics, Regression, Vector
from manyheads.inputs import ImageInput, NumbersInput, TextInput
from manyheads.modeling import inference, saving
from manyheads.modeling.build import averaged_over_flip, build_network
from manyheads.runtime import tensorflow

pytestmark = pytest.mark.slow

IMAGES = {"image": ImageInput(image_size=16, duplicate_correlation=1)}
STATISTICS = LabelStatistics(30.0, 10.0, centers=(0.5, 0.5), spreads=(0.2, 0.2))
EVERY_KIND = named(
    {
        "age": Regression(unit="years", minimum=0, maximum=116),
        "height": Regression(unit="cm", minimum=50, maximum=250),
        "weight": Regression(unit="kg", minimum=2, maximum=200),
        "race": Categorical(classes=("a", "b", "c")),
        "tags": Categorical(classes=("day", "night")),
        "gender": Binary(classes=("male", "female")),
        "place": Vector(unit="metres", width=2, minimum=0, maximum=1),
        "box": Box(),
    }
)
LOSSES = {
    "age": "soft_label",
    "height": "gaussian",
    "weight": "mae",
    "race": "logit_adjusted",
    "tags": "binary_crossentropy",
    "gender": "binary_crossentropy",
    "place": "mse",
    "box": "mae",
}
TRUNK = {"stem": (8,), "widths": (8, 16), "blocks": (1, 1), "dropout": 0.0}
FUSION = LateFusionEncoder(**TRUNK, embedding=8, stacks=((8,),), kernel=3, pool=2, dense=(8,))
MIXED = {**IMAGES, "words": TextInput(vocabulary=50, length=9), "sizes": NumbersInput(width=4)}
NETWORKS = {
    "every_kind_mirrored": (CompactEncoder(**TRUNK), IMAGES, EVERY_KIND),
    "fusion": (FUSION, MIXED, {name: EVERY_KIND[name] for name in ("weight", "race")}),
    "pretrained": (
        PretrainedEncoder(backbone="efficientnet_lite0", weights="random", frozen_blocks=0, hidden=8, dropout=0),
        {"image": ImageInput(image_size=32, duplicate_correlation=1)},
        {"race": EVERY_KIND["race"]},
    ),
}
SYSTEMS = (*SMALL_SYSTEMS, *NETWORKS)
DOCUMENTATION = synthetic("to test", "made up")


@pytest.fixture(scope="module", autouse=True)
def _keras():
    tensorflow.require_tensorflow()


def drawn(kinds, n=70):
    """Return random inputs: numbers, or ids and pixels, which are below 50."""
    random = np.random.default_rng(0)
    return {name: random.integers(1, 50, (n, *kind.shape)).astype(kind.dtype) for name, kind in kinds.items()}


def export_to(folder, form, saved, inputs):
    n = len(next(iter(inputs.values())))
    subset = Subset(inputs, np.arange(n), [f"{i}.jpg" for i in range(n)], {}, [""] * n, saved.card.inputs)
    return exporting.export(lambda: saved, form, folder, subset, DOCUMENTATION)


@pytest.fixture(scope="module")
def system(make_config):
    """Return a function that returns a model of a system with random weights, and inputs for it."""
    import keras

    @functools.cache
    def system(name):
        keras.utils.set_random_seed(1)
        if name in SMALL_SYSTEMS:
            settings = make_config(*SMALL_SYSTEMS[name])
            encoder, kinds, heads = settings.model, settings.inputs, settings.data.heads
            losses = settings.loss.functions
        else:
            encoder, kinds, heads = NETWORKS[name]
            losses = {head: LOSSES[head] for head in heads}
        objective = objective_for(heads, losses, dict.fromkeys(heads, STATISTICS))
        network = build_network(encoder, objective, kinds, folded=True)
        for weights in network.trainable_variables:  # so that biases and answers differ
            weights.assign_add(keras.random.normal(weights.shape, stddev=0.02))
        if name.endswith("mirrored"):
            network = averaged_over_flip(network, kinds)
        card = saving.ModelCard(data="sample", inputs=kinds, heads=heads, digest=f"digest of {name}")
        return saving.SavedModel(network, card), drawn(kinds)

    return system


@pytest.fixture(scope="module")
def outputs_of(system):
    """Return a function that returns what predict reads the answers to a system's inputs from."""

    @functools.cache
    def outputs_of(name):
        saved, inputs = system(name)
        return saved.predictor()(inputs)

    return outputs_of


def exported(system, name, form, folder):
    found = export_to(folder, form, *system(name))
    return found, FORMATS[form].open(folder), json.loads((folder / "export.json").read_text())


def embedded(form, folder):
    """Return the description in the model itself."""
    if form == "onnx":
        import onnx

        return {each.key: each.value for each in onnx.load(folder / "model.onnx").metadata_props}["manyheads"]
    if form == "litert":
        return zipfile.ZipFile(folder / "model.tflite").read("export.json").decode()
    return (folder / "assets.extra/export.json").read_text()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_answers_as_its_model_does(name, form, system, outputs_of, tmp_path):
    if (name, form) == ("questions", "litert"):
        with pytest.raises(ConfigError, match=r"needs the operation FlexTensorListReserve, which .* Flex delegate"):
            exported(system, name, form, tmp_path / "out")
        assert not list(tmp_path.iterdir())
        return
    found, run, description = exported(system, name, form, tmp_path / "out")
    saved, inputs = system(name)
    assert json.loads(embedded(form, tmp_path / "out")) == description
    assert found.samples == 70
    assert found.from_predict is None
    outputs, answers = outputs_of(name), run({key: values[:1] for key, values in inputs.items()})
    for each, head in saved.card.heads.items():
        assert description["parity"]["from_the_model_in_float32"][each] == found.from_model[each].summary()
        assert description["heads"][each]["answers"][each]["meaning"]
        expected = head.probabilities(outputs[each]) if head.class_names else head.values(outputs[each])
        np.testing.assert_allclose(answers[each][0], np.atleast_1d(expected[0]), rtol=1e-4, atol=1e-4)
        assert answers[each].dtype == np.float32
        if head.class_names:
            assert description["heads"][each]["classes"] == list(head.class_names)
        else:
            assert description["heads"][each]["unit"] == head.label_unit
    assert description["inputs"].keys() == inputs.keys()
    for each, values in inputs.items():
        assert description["inputs"][each]["shape"] == [None, *values.shape[1:]]
        assert description["inputs"][each]["dtype"] == values.dtype


@pytest.fixture(scope="module")
def every_kind(system, tmp_path_factory):
    return exported(system, "every_kind_mirrored", "onnx", tmp_path_factory.mktemp("every_kind") / "onnx")


def test_the_mirror_image_is_inside(every_kind, system):
    _, run, _ = every_kind
    images = system("every_kind_mirrored")[1]["image"]
    straight, mirrored = run({"image": images}), run({"image": images[:, :, ::-1]})
    for name in straight:
        np.testing.assert_allclose(straight[name], mirrored[name], atol=1e-4)
    assert straight["age"].std() > 1e-3


def blocks_of_the_page():
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/exports.md").read_text(), re.DOTALL | re.MULTILINE)


def test_ids_follow_from_the_words():
    page = {}
    exec(blocks_of_the_page()[0], page)
    kind = TextInput(vocabulary=5000, length=8)
    for text in ("Straße, 42", "one two three four five six seven eight nine", "...", "ŒUVRE\tÉté don't"):
        np.testing.assert_array_equal(page["ids"](text, 5000, 8), kind.encode(text.encode()).values)


def test_intervals_and_medians_follow_from_the_answers(every_kind, system, outputs_of):
    _, run, description = every_kind
    saved, inputs = system("every_kind_mirrored")
    answers, outputs = run(inputs), outputs_of("every_kind_mirrored")
    page = {}
    exec(blocks_of_the_page()[0], page)
    columns = {}
    for head in saved.card.heads.values():
        columns |= head.prediction_columns(outputs[head.name])
    low, high = page["gaussian_interval"](answers["height"][:, 0], answers["height_log_variance"][:, 0])
    np.testing.assert_allclose(low, columns["height_low"], atol=0.0051)
    np.testing.assert_allclose(high, columns["height_high"], atol=0.0051)
    for row, distribution in enumerate(answers["age_distribution"]):
        expected = [columns[f"age_{end}"][row] for end in ("low", "median", "high")]
        np.testing.assert_allclose(page["quantiles"](distribution, 0), expected, atol=0.006)
    assert set(description["heads"]["age"]["answers"]) == {"age", "age_distribution"}
    assert "1.644854 * exp(height_log_variance / 2)" in description["heads"]["height"]["answers"][
        "height_log_variance"
    ]["meaning"]  # fmt: skip


def test_an_export_that_answers_otherwise_is_refused_and_leaves_nothing(system, tmp_path, monkeypatch):
    saved, inputs = system("sample")
    right = exporting.answering_network

    def disturbed(layer, change):
        def network(saved):
            import keras

            copy = keras.models.clone_model(saved.keras_model)
            copy.set_weights(saved.keras_model.get_weights())
            bias = copy.get_layer(layer).weights[1]
            bias.assign(change(bias.numpy()))
            return right(saved._replace(keras_model=copy))

        return network

    refusals = {
        "age_standardised": (lambda bias: bias + 0.0005, r"age: age of \d+\.jpg is \d+\.\d+ instead of \d+\.\d+;"),
        "race": (lambda bias: np.roll(np.arange(5.0), 1), r"race: \d+\.jpg is \w+ instead of \w+; race of"),
        "gender": (lambda bias: bias * np.nan, r"gender of \d+\.jpg is nan instead of"),
    }
    export_to(tmp_path / "out", "onnx", saved, inputs)
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    for target, (layer, (change, said)) in zip(("out", "other", "out"), refusals.items(), strict=True):
        monkeypatch.setattr(exporting, "answering_network", disturbed(layer, change))
        with pytest.raises(IntegrityError, match=said):
            export_to(tmp_path / target, "onnx", saved, inputs)
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


def test_a_kind_whose_values_are_not_its_outputs_has_to_say_so(system, tmp_path):
    class Doubled(Vector):
        def values(self, outputs):
            return 2 * super().values(outputs)

    class Told(Doubled):
        def answers(self, outputs):
            return {self.name: 2 * outputs[self.name]}

    saved, inputs = system("numbers")
    for kind in (Doubled, Told):
        one = kind(**saved.card.heads["one"].model_dump(), name="one")
        card = saved.card.model_copy(update={"heads": {**saved.card.heads, "one": one}})
        arguments = tmp_path / "out", "onnx", saved._replace(card=card), inputs
        if kind is Told:
            assert export_to(*arguments).from_model["one"].largest < 1e-3
        else:
            with pytest.raises(IntegrityError, match=r"one of \d+\.jpg is"):
                export_to(*arguments)


def test_only_an_export_of_the_same_format_is_replaced(system, tmp_path):
    saved, inputs = system("numbers")
    target = tmp_path / "out"
    for _ in range(2):
        export_to(target, "saved_model", saved, inputs)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("")
    for each in ("out", "own", "file"):
        with pytest.raises(ConfigError, match=rf"{each} exists and is no export to onnx"):
            export_to(tmp_path / each, "onnx", saved, inputs)
    assert (tmp_path / "own/thesis.txt").exists()
    assert json.loads((target / "export.json").read_text())["format"] == "saved_model"


def test_a_saved_model_needs_neither_keras_nor_this_project(system, tmp_path):
    found, run, _ = exported(system, "sample", "saved_model", tmp_path / "out")
    images = system("sample")[1]["image"]
    np.save(tmp_path / "images.npy", images)
    code = """import sys; sys.modules.update(dict.fromkeys(["keras", "manyheads"]))
import numpy as np, tensorflow as tf
serve = tf.saved_model.load("out").signatures["serving_default"]
np.save("age.npy", serve(image=tf.constant(np.load("images.npy")))["age"].numpy())"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "age.npy"), run({"image": images})["age"], atol=1e-5)


@pytest.fixture(scope="module")
def project(tmp_path_factory, migrated_store, tiny_config, system):
    """Return a project with packed samples and a model, and settings that fit both."""
    root = tmp_path_factory.mktemp("project")
    layout = make_tiny_project(root, migrated_store)
    (root / "params.yaml").write_text(yaml.safe_dump(tiny_config().model_dump(mode="json")))
    layout.model.mkdir()
    saved, _ = system("sample")
    saving.save(layout.model, saved.keras_model, saved.card.model_copy(update={"inputs": tiny_config().inputs}))
    return root


def test_the_command_exports_the_projects_model(project, monkeypatch, caplog, capfd):
    monkeypatch.chdir(project)
    with caplog.at_level("INFO"):
        export_command.main(["--format", "onnx"])
    assert "60 validation samples, compared with the model in float32: no class differs; age by at most" in caplog.text
    assert capfd.readouterr() == ("", "")  # the converters are silent
    subset = export_command.validation_subset(saving.read_card(project / "models"), project)
    assert set(subset.rows % 5) == {3}  # as make_tiny_project splits
    description = json.loads((project / "exports/onnx/export.json").read_text())
    assert description["terms"] == "Part of this project, under its license."
    assert description["model_digest"] == json.loads((project / "models/model.json").read_text())["digest"]


def test_the_program_of_the_page_gives_the_answers_of_predict(project, monkeypatch, tmp_path):
    monkeypatch.chdir(project)
    if not (project / "exports/onnx").exists():
        export_command.main(["--format", "onnx"])
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['manyheads', 'tensorflow', 'keras', 'cv2']))\n"
        + blocks_of_the_page()[1]
    )
    assert len(blocks_of_the_page()[1].partition("\n\n")[2].splitlines()) <= 10
    random = np.random.default_rng(0)
    for number, (width, height, suffix) in enumerate([(16, 16, "png"), (700, 450, "jpg"), (97, 300, "webp")]):
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((width, height))
        exif = coarse.getexif()
        exif[0x0112] = 6 if suffix == "jpg" else 1  # turned
        coarse.save(tmp_path / f"{number}.{suffix}", exif=exif)
    predict.main([str(tmp_path), "--output", str(tmp_path / "predictions.csv")])
    table = pd.read_csv(tmp_path / "predictions.csv", index_col="path")
    assert len(table) == 3
    for path, row in table.iterrows():
        command = [sys.executable, "-c", program, str(tmp_path.parent / path)]
        printed = subprocess.run(command, cwd=project, check=True, capture_output=True, text=True).stdout
        answers = {line.split()[0]: line.split()[1:] for line in printed.splitlines()}
        assert answers["age"][1] == "marks"
        assert float(answers["age"][0]) == pytest.approx(row["age"], abs=0.0051)  # the table has two digits
        for head in ("race", "gender"):
            assert answers[head][1] == row[head]
            assert float(answers[head][0]) == pytest.approx(row[f"{head}_{row[head]}"], abs=6e-5)  # four digits


def test_other_data_than_the_models_is_refused(project, monkeypatch, tiny_config):
    monkeypatch.chdir(project)
    params = project / "params.yaml"
    right = params.read_text()
    for changed, said in (
        (tiny_config("inputs.image.image_size=32"), "another inputs than the model"),
        (tiny_config("data=utkface"), "another data.name than the model"),
    ):
        params.write_text(yaml.safe_dump(changed.model_dump(mode="json")))
        with pytest.raises(ConfigError, match=rf"params.yaml has {said}.*`dvc repro split`"):
            export_command.main(["--format", "onnx"])
    params.write_text(right)
    splits = project / "data/splits.csv"
    splits.rename(project / "aside.csv")
    with pytest.raises(IntegrityError, match=r"splits.csv is missing"):
        export_command.main(["--format", "onnx"])
    (project / "aside.csv").rename(splits)


def test_wrong_options_are_named(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    with pytest.raises(SystemExit) as stopped:
        export_command.main(["--format", "openvino"])
    assert stopped.value.code == 2
    assert re.search(r"openvino.*onnx.*litert.*saved_model", capsys.readouterr().err)
    with pytest.raises(ConfigError, match=r"age\.tflite is a folder, in which the model is model\.onnx"):
        export_command.main(["--format", "onnx", "--output", "age.tflite"])


@pytest.mark.parametrize(("form", "package"), [("onnx", "tf2onnx"), ("litert", "ai_edge_litert")])
def test_a_missing_package_is_named(form, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MachineError, match=rf"{package} is not installed: `make install`, or pip install"):
        export_command.main(["--format", form])


def test_a_model_in_bfloat16_is_compared_in_float32(system, tmp_path, monkeypatch):
    """As if this machine had bfloat16 instructions; TensorFlow computes it without."""
    for module in (inference, exporting):
        monkeypatch.setattr(module, "fastest_precision", lambda: "mixed_bfloat16")
    saved, inputs = system("every_kind_mirrored")
    saved = saved._replace(card=saved.card.model_copy(update={"precision": "mixed_bfloat16"}))
    found = export_to(tmp_path / "out", "onnx", saved, inputs)
    exact, rough = found.from_model["weight"], found.from_predict["weight"]
    assert exact.largest < 1e-3 < rough.largest
    description = json.loads((tmp_path / "out/export.json").read_text())
    assert description["parity"]["from_predict_in_bfloat16"]["weight"] == rough.summary()
    (line,) = [line for line in export_command.report(found) if "bfloat16" in line]
    assert "weight by" in line
    assert "race in" in line
