"""The documents are true: commands, settings, links and Python in them exist in the project."""

import ast
import functools
import importlib
import itertools
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args, get_origin

import pytest
import yaml
from dvc.cli.parser import get_main_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from pydantic import BaseModel, TypeAdapter

from manyheads.__main__ import OTHERS, STAGES
from manyheads.commands import completion
from manyheads.config import composition
from manyheads.config.schema import Config
from manyheads.encoders import ENCODERS
from manyheads.encoders.base import Encoder
from manyheads.heads import HEADS, Head, Heads
from manyheads.inputs import INPUTS
from manyheads.inputs.base import Input

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACES = ("data/raw/README.md", "data/lists/README.md", "extensions/README.md", "examples/README.md", "CHANGELOG.md")
FOLDER_PAGES = [ROOT / name for name in PLACES]
GROUPS = {
    folder.name: {option.stem for option in folder.glob("*.yaml")}
    for folder in (ROOT / "conf").iterdir()
    if folder.is_dir()
}
OPTIONS_OF_STAGES = {"-m", "--multirun", "--params", "--help"}
# Programs of others that the documents name; what they take is theirs.
OTHER_PROGRAMS = {
    ".",
    "cp",
    "curl",
    "docker",
    "export",
    "git",
    "gto",
    "manyheads",
    "mkdir",
    "mlflow",
    "npm",
    "pip",
    "printf",
    "pytest",
    "python3",
    "ray",
    "scancel",
    "uv",
    ".venv/bin/uv",
}
ELIDED = {"…", "..."}
MEMBERS = {Input: INPUTS, Encoder: ENCODERS, Head: HEADS}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


class Command(NamedTuple):
    """A command of a page: its words, and those of them that are overrides of settings."""

    words: list[str]
    overrides: list[str]


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def spans(page: Path) -> list[str]:
    """Return what stands in backticks outside of fenced blocks, each on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


def shell_commands(page: Path) -> list[list[str]]:
    """Return the commands of the ``sh`` blocks, and those in backticks, as lists of words."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    lines += [span for span in spans(page) if re.match(r"(dvc|make|python) \S", span)]
    words = [shlex.split(line, comments=True) for line in lines]
    commands = [
        [word for word in part if word not in ELIDED and not word.endswith("=…")]
        for line in words
        for is_operator, part in itertools.groupby(line, lambda word: word in ("&&", "|", ";"))
        if not is_operator
    ]
    return [command for command in commands if command]


def files_of_the_reader(page: Path, kind: str) -> dict[str, str]:
    """Return the files that a page tells its reader to write: path and text.

    Args:
        page: The page.
        kind: ``yaml`` for options of ``experiment``, ``python`` for files of ``extensions``.
    """
    pattern = r"\((conf/\S+\.yaml)\)" if kind == "yaml" else r"# (extensions/\S+\.py)"
    named = ((re.search(pattern, block), block) for block in blocks(page, kind))
    return {found[1]: block for found, block in named if found}


def made_by_new(page: Path) -> set[str]:
    """Return the options of ``data`` that commands of a page make; ``test_datasets_page`` runs these."""
    named = re.findall(r"(?:make new NAME=|manyheads new )(\w+)", page.read_text(encoding="utf-8"))
    return set(named)


@functools.cache
def compose(root: Path, *overrides: str) -> Config:
    """Compose the ``conf/`` of a folder with overrides, each choice once."""
    return composition.compose(root, overrides)


@pytest.fixture
def project_of(tmp_path, monkeypatch):
    """Return a function that returns the project in which a page's commands run.

    It is a copy with the files that the page tells its reader to write, or the project itself if there are none.
    """

    def project_of(page: Path) -> Path:
        files = files_of_the_reader(page, "yaml") | files_of_the_reader(page, "python")
        if not files:
            return ROOT
        shutil.copytree(ROOT / "conf", tmp_path / "conf")
        (tmp_path / "extensions").mkdir()
        for name, text in files.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        return tmp_path

    yield project_of
    for name in [name for name in sys.modules if name == "extensions" or name.startswith("extensions.")]:
        del sys.modules[name]


def choices(override: str) -> list[str]:
    """Return an override for each value of a list, or for both ends of an interval."""
    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_sweep_override():
        return [override]
    value = parsed.value()
    key = override.split("=", 1)[0]
    if isinstance(value, IntervalSweep):
        return [f"{key}={value.start}", f"{key}={value.end}"]
    return [f"{key}={each}" for each in parsed.sweep_string_iterator()]


def single(overrides: list[str]) -> list[list[str]]:
    """Return overrides without lists in which every value of every list occurs."""
    varied = [choices(override) for override in overrides]
    first = [values[0] for values in varied]
    found = [first]
    for i, values in enumerate(varied):
        found += [[*first[:i], value, *first[i + 1 :]] for value in values[1:]]
    return found


def overrides_of(words: list[str]) -> list[str]:
    """Return the settings among the words of a command; a named sweep is replaced by its lists."""
    found = []
    for word in words:
        if sweep := re.fullmatch(r"\+sweep=(\w+)", word):
            option = yaml.safe_load((ROOT / f"conf/sweep/{sweep[1]}.yaml").read_text(encoding="utf-8"))
            found += [f"{key}={values}" for key, values in option["hydra"]["sweeper"]["params"].items()]
        # Hydra's own settings depend on its launchers, which are not all installed.
        elif "=" in word and not re.match(r"-|\+*hydra[./]", word):
            found.append(word)
    return found


def read_manyheads(name: str, arguments: list[str], capsys) -> list[str]:
    """Return the overrides of ``python -m manyheads NAME``; fail if the command or an option does not exist."""
    assert name in STAGES | OTHERS
    options = {word.split("=")[0] for word in arguments if re.match(r"--?[a-z]", word)}
    if name in STAGES:
        assert options <= OPTIONS_OF_STAGES
        assert name == "train" or not options & {"-m", "--multirun"}
        return overrides_of(arguments)
    with pytest.raises(SystemExit):
        importlib.import_module(f"manyheads.commands.{OTHERS[name].module}").main(["--help"])
    assert options <= set(re.findall(r"--?[a-z][a-z-]*", capsys.readouterr().out))
    return overrides_of(arguments) if name in ("params", "search") else []


def read_make(arguments: list[str], makefile: str) -> list[str]:
    """Return the overrides of ``make``; fail if the target or a variable does not exist."""
    targets = [word for word in arguments if "=" not in word]
    variables = dict(word.split("=", 1) for word in arguments if "=" in word)
    assert set(targets) <= set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())
    for name in variables:
        assert re.search(rf"^{name} \?=|\$\((or \$\()?{name}\b", makefile, re.MULTILINE), name
    return overrides_of(shlex.split(variables.get("ARGS", "")))


def read_command(words: list[str], capsys) -> Command:
    """Return a command with its overrides; fail if the command or one of its options does not exist."""
    match words:
        case ["dvc", *names] if names[0] != "repro" and all(name.isalpha() for name in names):
            # A command that the prose names may need more words than that.
            with pytest.raises(SystemExit):
                get_main_parser().parse_args([*names, "--help"])
            return Command(words, [])
        case ["dvc", *arguments]:
            # An option whose value is elided.
            arguments = arguments[:-1] if arguments[-1] == "-S" else arguments
            parsed = get_main_parser().parse_args(arguments)
            stages = [target for target in getattr(parsed, "targets", None) or [] if "/" not in target]
            assert set(stages) <= set(STAGES)
            return Command(words, overrides_of(getattr(parsed, "set_param", None) or []))
        case ["python", "-m", "manyheads"] | ["python", "-m", "manyheads", "--help" | "--version"]:
            return Command(words, [])
        case ["python", "-m", "manyheads", name, *arguments]:
            return Command(words, read_manyheads(name, arguments, capsys))
        case ["make", *arguments]:
            return Command(words, read_make(arguments, (ROOT / "Makefile").read_text(encoding="utf-8")))
        case ["uv", "run", "--no-sync", *rest]:
            return read_command(rest, capsys)
        case ["manyheads", "--install-completion", *shell]:
            assert set(shell) <= set(completion.SHELLS)
            return Command(words, [])
        case ["python", script, *arguments]:
            text = (ROOT / script).read_text(encoding="utf-8")
            assert all(f'"{word}"' in text for word in arguments if word.startswith("--"))
            return Command(words, overrides_of(arguments))
    assert words[0] in OTHER_PROGRAMS
    return Command(words, [])


@each_page
def test_commands_exist_and_their_settings_compose(page, project_of, capsys):
    root = project_of(page)
    made = {f"data={name}" for name in made_by_new(page)}
    for words in shell_commands(page):
        try:
            command = read_command(words, capsys)
            if made & set(command.overrides):
                continue
            for overrides in single(command.overrides) if command.overrides else []:
                compose(root, *overrides)
        except (Exception, SystemExit) as error:
            pytest.fail(f"{page.name}: {shlex.join(words)}: {error} {capsys.readouterr().err}")


def test_a_command_that_does_not_exist_is_noticed(capsys):
    for command in (
        "python -m manyheads trian",
        "python -m manyheads pack -m",
        "python -m manyheads compare --tset a b",
        "dvc repro nothing",
        "make everything",
        "make params ARG='experiment=hour'",
        "python benchmarks/pack.py --sizes 3",
        "run it",
    ):
        with pytest.raises(AssertionError):
            read_command(shlex.split(command), capsys)


def slug(heading: str, seen: list[str]) -> str:
    """Return the anchor that GitHub gives a heading after those of the headings before it."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
    text = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
    return f"{text}-{seen.count(text)}" if text in seen else text


def anchors(page: Path) -> list[str]:
    """Return the anchors of a page."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        found.append(slug(heading, found))
    return found


@pytest.mark.parametrize("page", [*PAGES, *FOLDER_PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.name} links to {target}; its anchors are {anchors(linked)}"


def test_the_anchor_of_a_heading_is_githubs():
    assert slug("What `train.flip_tta` does, and why", []) == "what-trainflip_tta-does-and-why"
    assert slug("Your own", ["your-own"]) == "your-own-1"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_python_compiles_and_what_it_imports_exists(page):
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), str(page), "exec"), {})


def test_classes_of_the_documentation_are_made_of_what_exists():
    """Each method and class attribute of a class that a page shows is one that its base class knows."""
    for block in blocks(ROOT / "docs/datasets.md", "python"):
        module = types.ModuleType("documentation")
        exec(compile(block, "docs/datasets.md", "exec"), module.__dict__)
        written = [each for each in vars(module).values() if getattr(each, "__module__", "") == "documentation"]
        for each in [each for each in written if isinstance(each, type)]:
            defined = {name for name, value in vars(each).items() if callable(value) or isinstance(value, property)}
            own = {name for name in defined if not name.startswith("_") and name not in ("model_post_init",)}
            assert own <= set(dir(each.__bases__[0])), f"{each.__name__} defines {own - set(dir(each.__bases__[0]))}"


def has_setting(kind: object, keys: list[str]) -> bool:
    """Return whether a type of the schema has a dotted name."""
    if not keys:
        return True
    if get_origin(kind) is Annotated:
        return has_setting(get_args(kind)[0], keys)
    if get_origin(kind) is dict:
        name, value = get_args(kind)
        return (get_origin(name) is not Literal or keys[0] in get_args(name)) and has_setting(value, keys[1:])
    if kind in MEMBERS:
        return any(has_setting(member, keys) for member in MEMBERS[kind].values())
    if isinstance(kind, type) and issubclass(kind, BaseModel) and keys[0] in kind.model_fields:
        return has_setting(kind.model_fields[keys[0]].annotation, keys[1:])
    return False


def wrong_names(page: Path) -> list[str]:
    """Return the settings and options in backticks that neither the schema nor ``conf/`` nor the page itself has."""
    own = {Path(name).stem for name in files_of_the_reader(page, "yaml")} | made_by_new(page)
    wrong = []
    for span in spans(page):
        for word in span.split():
            key, _, value = word.removeprefix("+").partition("=")
            if key in GROUPS and value and not set(value.split(",")) <= GROUPS[key] | own | {"…"}:
                wrong.append(word)
            keys = key.split(".")
            section = re.fullmatch(r"[a-z_]+(\.[a-z0-9_]+)+", key) and keys[0] in Config.model_fields
            is_file = key.endswith((".keras", ".json", ".onnx", ".tflite"))
            if section and not is_file and not has_setting(Config, keys):
                wrong.append(word)
    return wrong


@pytest.mark.parametrize("page", [*PAGES, *FOLDER_PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_and_options_in_backticks_exist(page):
    assert not wrong_names(page)


def test_a_setting_that_does_not_exist_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("`train.flip`, `train.flip_tta`, `inputs.image.image_size`, `inputs.image.size`, `model.weights`\n")
    page.write_text(page.read_text() + "`split.files.reviewed`, `split.files.other`, `loss=heavy`, `data.path=a/b`\n")
    assert wrong_names(page) == ["train.flip", "inputs.image.size", "split.files.other", "loss=heavy"]


def table_rows(page: Path) -> dict[str, str]:
    """Return the second cell of each row of a page's tables whose first cell is one name in backticks."""
    return dict(re.findall(r"^\| `([a-z_]+)` \| (.*?) \|$", page.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_readme_names_every_option():
    rows = table_rows(ROOT / "README.md")
    for group in GROUPS.keys() - {"sweep"}:
        missing = GROUPS[group] - set(re.findall(r"`([a-z_]+)`", rows[group]))
        # The systems stand below the table, each with its data.
        assert not [option for option in missing if f"`{option}`" not in (ROOT / "README.md").read_text("utf-8")]


def test_the_page_on_configuration_names_every_group():
    assert set(table_rows(ROOT / "docs/configuration.md")) == set(GROUPS)


@pytest.mark.parametrize("page", [*PAGES, *FOLDER_PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_files_in_backticks_exist(page):
    for span in spans(page):
        if re.fullmatch(r"(src|manyheads|tests|conf|docs|benchmarks|requirements)/[\w./]*", span):
            path = ROOT / (f"src/{span}" if span.startswith("manyheads/") else span)
            assert path.exists(), f"{page.name} names {span}"


def test_heads_of_the_documentation_are_valid():
    heads, *losses = (yaml.safe_load(block) for block in blocks(ROOT / "docs/heads.md", "yaml"))
    assert list(TypeAdapter(Heads).validate_python(heads["heads"])) == ["age", "race"]
    settings = composition.compose(ROOT, ["experiment=posts"]).model_dump(mode="json")
    composed = [Config.model_validate({**settings, "loss": settings["loss"] | loss}).loss for loss in losses]
    assert len(composed) == 2
    assert composed[0] == composed[1]


def make_targets() -> list[str]:
    """Return the targets that ``make help`` lists."""
    said = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names, texts = zip(*(line.split(maxsplit=1) for line in said.splitlines()), strict=True)
    starts = {line.index(text) for line, text in zip(said.splitlines(), texts, strict=True)}
    assert len(starts) == 1, "the descriptions are not aligned"
    return list(names)


def recipe(target: str) -> str:
    """Return what a target would run, without running it; the lines of ``install`` are left out."""
    command = ["make", "--dry-run", "--always-make", "--assume-old=install", target]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def commands_of(recipe: str) -> list[list[str]]:
    """Return the commands of a recipe, with the defaults of its shell variables."""
    recipe = recipe.replace("\\\n", " ")
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", recipe).replace("$name", "posts").replace(f"{ROOT}/", "")
    found = []
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>")
        lexer.whitespace_split = True
        for ends, words in itertools.groupby(lexer, lambda word: word in {";", "|", "||", "&&", "do"}):
            found += [] if ends else [list(words)]
    return found


def test_every_target_of_make_has_its_commands_beside_it():
    """A command of the page is one of the Makefile, and the page has every command of a target."""
    page = (ROOT / "docs/platforms.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `make ([a-z]+)` \| (.*) \|$", page, re.MULTILINE))
    assert list(rows) == make_targets()
    for target in rows.keys() - {"help", "install", "lock", "clean"}:
        in_make = commands_of(recipe(target))
        on_page = [shlex.split(words) for words in re.findall(r"`uv run --no-sync ([^`]+)`", rows[target])]
        for words in on_page:
            assert any(words == line[: len(words)] for line in in_make), f"{target}: {shlex.join(words)}"
        for line in in_make:
            if line[0] in {"dvc", "python", "pytest", "ruff", "mypy", "lint-imports", "mlflow"}:
                # What only prints a note is left out.
                known = ">" in line or any(words == line[: len(words)] for words in on_page)
                assert known, f"{target}: {shlex.join(line)}"


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited.keys() >= {"cff-version", "message", "title", "authors"}
    assert (cited["title"], cited["version"], cited["license"]) == (project["name"], project["version"], "MIT")
    assert f"Copyright (c) 2026 {cited['authors'][0]['name']}" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
