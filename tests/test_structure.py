"""The architecture: which package imports which, what DVC must watch, and where files lie."""

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import grimp
import pytest
import yaml

from manyheads.__main__ import OTHERS, STAGES, usage
from manyheads.paths import Paths

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/manyheads"
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))

# A stage may import these without DVC watching them, because they shape no output. DVC watches settings as parameters.
UNWATCHED = {"config", "errors", "extensions", "paths", "runtime", "tracking"}

# Members of these packages are found by discovery and chosen by a setting, not imported by name.
FAMILIES = ("datasets", "encoders", "heads", "inputs")


@cache
def graph():
    return grimp.build_graph("manyheads", exclude_type_checking_imports=True, cache_dir=None)


def path_of(module):
    path = SOURCE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def needed_by(stage):
    """Return the modules that a stage's code imports, directly or not."""
    watched = grimp.build_graph("manyheads", exclude_type_checking_imports=True, cache_dir=None)
    for module in list(watched.modules):
        name = module.removeprefix("manyheads.")
        if any(name == each or name.startswith(f"{each}.") for each in UNWATCHED):
            watched.remove_module(module)
    return watched.find_upstream_modules(f"manyheads.stages.{stage}") - {"manyheads", "manyheads.stages"}


def test_the_top_of_the_package_is_small_and_every_package_is_on_one_layer():
    entries = [path for path in SOURCE.iterdir() if path.name != "__pycache__"]
    assert len([path for path in entries if path.is_file()]) <= 5
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    named = {name.strip() for layer in layers for name in re.split("[|:]", layer)}
    assert named == {path.stem for path in entries if path.name != "__init__.py"}


def test_the_graph_of_packages_is_small():
    """Each folder and each file at the top is one node.

    The folder ``weights`` raised the limits by 1 and 6: DVC watches the encoders, so how weights are fetched is apart.
    """
    nodes = {module.split(".")[1] for module in graph().modules if "." in module}
    arrows = {
        (importer.split(".")[1], imported.split(".")[1])
        for importer in graph().modules
        for imported in graph().find_modules_directly_imported_by(importer)
        if "." in importer and "." in imported and importer.split(".")[1] != imported.split(".")[1]
    }
    assert len(nodes) <= 25
    assert len(arrows) <= 132


def test_one_package_imports_mlflow_and_only_config_reads_yaml():
    def importers(package):
        pattern = re.compile(rf"^\s*(import|from) {package}\b", re.MULTILINE)
        found = (path for path in SOURCE.rglob("*.py") if pattern.search(path.read_text(encoding="utf-8")))
        return {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in found}

    assert importers("mlflow") == {"tracking"}
    assert importers("omegaconf") == {"config", "__main__"}
    assert importers("dvc") == set()


def test_tensorflow_is_imported_within_functions_or_by_modules_that_only_functions_import():
    heavy = {
        "manyheads.encoders.layers.fused_normalization",
        "manyheads.modeling.multi_head",
        "manyheads.modeling.objective_forms",
    }
    for module in graph().modules:
        body = ast.parse(path_of(module).read_text(encoding="utf-8")).body
        names = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
        for node in body:
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        roots = {name.split(".")[0] for name in names}
        assert not roots & {"mlflow", "dvc"}, module
        if module not in heavy:
            assert not roots & {"tensorflow", "keras"}, module
            assert not names & heavy, module


def test_stages_of_dvc_are_the_commands():
    assert list(PIPELINE) == list(STAGES)
    for name, stage in PIPELINE.items():
        assert stage["cmd"] == f"${{run}} {name} --params"
        assert (SOURCE / "stages" / f"{name}.py").is_file()


@pytest.mark.parametrize("stage", list(PIPELINE))
def test_dvc_watches_the_code_that_a_stage_runs(stage):
    declared = set()
    for dependency in PIPELINE[stage]["deps"]:
        if dependency.startswith("src/"):
            path = ROOT / dependency
            assert path.exists(), dependency
            files = set(path.rglob("*.py")) if path.is_dir() else {path}
            declared |= {module for module in graph().modules if path_of(module) in files}
    needed = needed_by(stage)
    assert needed <= declared, f"{stage} does not declare {sorted(needed - declared)}"
    # A declared folder is used as a whole, or at least one of its files is.
    for dependency in PIPELINE[stage]["deps"]:
        module = dependency.removeprefix("src/").removesuffix(".py").replace("/", ".")
        if dependency.startswith("src/") and module.split(".")[1] not in (*FAMILIES, "stages"):
            assert any(f"{name}.".startswith(f"{module}.") for name in needed), f"{stage} does not use {dependency}"


def test_dvc_watches_few_places():
    code = [path for stage in PIPELINE.values() for path in stage["deps"] if path.startswith(("src/", "extensions"))]
    assert len(code) <= 55


def _outputs(stage):
    entries = stage.get("outs", []) + stage.get("metrics", [])
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def test_dvc_knows_every_file_of_the_paths():
    paths = Paths(Path())
    named = {
        str(getattr(paths, name))
        for name, value in vars(Paths).items()
        if isinstance(value, property) and name not in ("resume", "sweeps", "searches", "weights")
    }
    declared = {output for stage in PIPELINE.values() for output in _outputs(stage)} - {"${data.path}"}
    for path in named:
        assert any(path == output or path.startswith(f"{output}/") for output in declared), path
    for output in declared:
        assert any(path == output or path.startswith(f"{output}/") for path in named), output


def test_every_parameter_is_watched_by_some_stage():
    claimed = {parameter.split(".")[0] for stage in PIPELINE.values() for parameter in stage["params"]}
    assert claimed == set(PARAMS)


def test_no_setting_has_a_name_that_dvcs_run_cache_leaves_out():
    """DVC leaves these keys, at any depth, out of a run's digest, so another value would count as the same run."""

    def keys(values):
        return set(values) | {inner for value in values.values() if isinstance(value, dict) for inner in keys(value)}

    assert not keys(PARAMS) & {"size", "nfiles", "isexec"}


# Modules below the stages that take the whole configuration.
WHOLE = {"train": ["run", "tracked", "fingerprint"], "audit": ["out_of_fold"]}


@pytest.mark.parametrize("stage", list(PIPELINE))
def test_a_stage_watches_the_settings_that_it_reads(stage):
    sections = set()
    for module in [f"manyheads.stages.{stage}", *(f"manyheads.training.{name}" for name in WHOLE.get(stage, []))]:
        for node in ast.walk(ast.parse(path_of(module).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "config":
                sections.add(node.attr)
    claimed = {parameter.split(".")[0] for parameter in PIPELINE[stage]["params"]}
    assert sections & set(PARAMS) <= claimed, f"{stage} reads {sorted(sections & set(PARAMS) - claimed)}"


def test_conf_is_small():
    assert len(list((ROOT / "conf").rglob("*.yaml"))) <= 43
    assert len([path for path in (ROOT / "conf").iterdir() if path.is_dir()]) <= 8


def test_tests_lie_in_folders_of_the_same_names():
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    packages = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= packages | {"faults", "pipeline"}
    assert packages - folders <= {"encoders"}  # tested through the models and the reports


def test_help_names_every_command_with_a_line_and_an_example():
    text = usage()
    for name, command in (STAGES | OTHERS).items():
        assert f"  {name}" in text
        assert command.summary in text
        assert f"python -m manyheads {command.example}" in text


def test_what_is_committed_is_small_and_holds_no_store():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.is_file():
            assert path.stat().st_size < 1_000_000, name
        assert not re.search(r"(^|/)(mlflow\.db|mlruns|\.venv|outputs|multirun)(/|$)", name), name
        assert not re.fullmatch(r".*\.(jpe?g|keras|npy|npz|zip|tar\.gz)", name), name


def test_lock_files_name_no_host():
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        assert "--hash=sha256:" in text
        assert not re.search(r"https?://|--index|--extra-index|--find-links", text), path


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
