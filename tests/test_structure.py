"""The house's rules: who imports whom, what DVC must watch, and what lies where."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from manyheads.__main__ import OTHERS, STAGES, usage
from manyheads.paths import Paths

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))

# From the ground up: a module imports from its own floor or lower ones. Commands and stages are the top.
FLOORS = [
    ["credentials", "errors", "extensions", "files", "interruption", "layout", "locks", "machine", "progress"],
    ["archives", "augment", "duplicates", "heads", "heads.*", "images", "objective"],
    ["inputs", "inputs.*"],
    ["datasets", "datasets.*", "decoding", "encoders", "encoders.*"],
    ["comparison", "config", "packed", "tables"],
    ["pipeline"],
    ["evaluation", "evaluation.*", "figures", "model", "page", "parts", "tracking"],
    ["comparison_page", "report_page"],
    ["cards", "paired_page"],
    ["fitting"],
    ["training"],
    ["points"],
    ["compare", "params", "predict", "results", "search", "stages", "stages.*", "sweep"],
    ["__main__"],
]

# What a stage may import without DVC running it anew for a change in there: none of it shapes an output. The
# configuration's values reach a stage as parameters, which DVC watches by themselves.
PLUMBING = {
    "config",
    "credentials",
    "errors",
    "extensions",
    "files",
    "interruption",
    "layout",
    "locks",
    "machine",
    "pipeline",
    "progress",
    "tracking",
    "stages",
}

# Reached through the configuration, not by an import: heads and encoders are its values, datasets go by name.
FAMILIES = ("heads.", "inputs.", "encoders.", "datasets.")
BY_NAME = {f"{family[:-1]}{members}" for family in FAMILIES for members in ("", ".*")}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted((SOURCE / "manyheads").rglob("*.py")):
        parts = path.relative_to(SOURCE / "manyheads").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def imports(name: str) -> frozenset[str]:
    """Return the project's modules that a module imports, at its top or within functions, types alone left out."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "manyheads":
            base = ".".join(node.module.split(".")[1:])
            for alias in node.names:
                full = f"{base}.{alias.name}".lstrip(".")
                found.add(full if full in MODULES else base)
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("manyheads.") for alias in node.names if alias.name.startswith("manyheads.")
            }
    return frozenset(found - {"", name})


def reach(name: str) -> set[str]:
    """Return all modules that a stage's code goes through; plumbing is not followed."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in seen and current not in PLUMBING:
            seen.add(current)
            waiting += imports(current)
    return seen


def floor(name: str) -> int:
    for level, names in enumerate(FLOORS):
        if name in names or (f"{name.split('.')[0]}.*" in names and "." in name):
            return level
    raise AssertionError(f"{name} has no floor: say in FLOORS where it belongs")


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_imports_go_downwards(name):
    for other in imports(name):
        assert floor(other) <= floor(name), f"{name} imports {other}"


def test_nothing_imports_a_stage():
    for name in MODULES:
        if name != "__main__":
            assert not [other for other in imports(name) if other.startswith("stages.")], name


def test_one_file_imports_mlflow_and_only_config_reads_yaml():
    def importers(package):
        pattern = re.compile(rf"^\s*(import|from) {package}\b", re.MULTILINE)
        return {name for name, path in MODULES.items() if pattern.search(path.read_text(encoding="utf-8"))}

    assert importers("mlflow") == {"tracking"}
    assert importers("omegaconf") == {"config", "__main__"}
    assert importers("dvc") == set()


def test_tensorflow_is_imported_within_functions_or_by_what_only_they_import():
    heavy = {"encoders.normalisation", "objective"}
    for name, path in MODULES.items():
        top = [
            node
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        names = {alias.name.split(".")[0] for node in top if isinstance(node, ast.Import) for alias in node.names}
        names |= {(node.module or "").split(".")[0] for node in top if isinstance(node, ast.ImportFrom)}
        assert not names & {"mlflow", "dvc"}, name
        if names & {"tensorflow", "keras"}:
            assert name in heavy
        inner = {
            f"{node.module}.{alias.name}" for node in top if isinstance(node, ast.ImportFrom) for alias in node.names
        }
        inner |= {node.module for node in top if isinstance(node, ast.ImportFrom)}
        assert not inner & {f"manyheads.{module}" for module in heavy}, name


def test_stages_of_dvc_are_the_commands():
    assert list(PIPELINE) == list(STAGES)
    for name, stage in PIPELINE.items():
        expected = f"PYTHONPATH=src python -m manyheads {name} --config-dir . --config-name params"
        assert stage["cmd"] == expected
        assert (SOURCE / "manyheads/stages" / f"{name}.py").is_file()


@pytest.mark.parametrize("stage", list(PIPELINE))
def test_dvc_watches_the_code_that_a_stage_runs(stage):
    declared = set()
    for dependency in PIPELINE[stage]["deps"]:
        path = ROOT / dependency
        if dependency.startswith("src/"):
            assert path.exists(), dependency
            files = set(path.rglob("*.py")) if path.is_dir() else {path}
            declared |= {name for name, file in MODULES.items() if file in files}
    needed = reach(f"stages.{stage}")
    assert needed <= declared, f"{stage} does not declare {sorted(needed - declared)}"
    by_name = {name for name in declared if name in BY_NAME or f"{name.split('.')[0]}.*" in BY_NAME}
    assert declared - by_name <= needed, f"{stage} does not use {sorted(declared - by_name - needed)}"


def _outputs(stage):
    entries = stage.get("outs", []) + stage.get("metrics", [])
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def test_dvc_knows_every_file_of_the_layout():
    layout = Paths(Path())
    named = {
        str(getattr(layout, name))
        for name, value in vars(Paths).items()
        if isinstance(value, property) and name not in ("resume", "sweeps", "searches")
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
    """DVC drops these keys, at any depth, from what it knows a run by: another value would count as the same run."""

    def keys(values):
        return set(values) | {inner for value in values.values() if isinstance(value, dict) for inner in keys(value)}

    assert not keys(PARAMS) & {"size", "nfiles", "isexec"}


@pytest.mark.parametrize("stage", list(PIPELINE))
def test_a_stage_watches_the_settings_that_it_reads(stage):
    sections = set()
    for name in {f"stages.{stage}", *(reach(f"stages.{stage}") & {"parts"})}:
        tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "config":
                sections.add(node.attr)
    sections &= set(PARAMS)
    claimed = {parameter.split(".")[0] for parameter in PIPELINE[stage]["params"]}
    assert sections <= claimed, f"{stage} reads {sorted(sections - claimed)}"


def test_each_module_has_its_tests():
    exempt = {"errors", "layout", "progress", "parts", "figures", "augment", "results", "params", "packed"}
    exempt |= {"stages", "datasets", "documentation", "encoders", "evaluation", "inputs", "__main__"}
    # What the report draws is tested through the stage, two models' page through compare.
    exempt |= {"cards", "page", "report_page", "paired_page"}
    for name in MODULES:
        if name and name.split(".")[-1] not in exempt and not name.startswith(FAMILIES):
            assert (ROOT / "tests" / f"test_{name.split('.')[-1]}.py").is_file(), name


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
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 200
