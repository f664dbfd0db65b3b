"""The command line: ``python -m manyheads COMMAND``."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from manyheads.runtime import exhaustion, signals
from manyheads.runtime.credentials import log_to_stderr, mask_tracebacks, masked
from manyheads.runtime.printing import printable

if TYPE_CHECKING:
    from manyheads.config.schema import Config


class Command(NamedTuple):
    """A command: a summary in one line, an example, and the name of its module."""

    summary: str
    example: str
    module: str


STAGES = {
    "source": Command("create or locate the raw data", "source data=sample", "source"),
    "parse": Command("read labels from the raw data", "parse data=utkface", "parse"),
    "pack": Command("encode each input into one array, and find duplicates", "pack inputs.image.image_size=64", "pack"),
    "split": Command("assign samples to train, validation and test", "split split=random", "split"),
    "audit": Command("list labels that look wrong", "audit audit.folds=4", "audit"),
    "train": Command("train the model", "train loss=age_heavy train.epochs=5", "train"),
    "evaluate": Command("evaluate the trained model on the test subset", "evaluate", "evaluate"),
    "report": Command("write the report and the cards of model and data", "report", "report"),
}
OTHERS = {
    "new": Command("look at your data and write conf/data/NAME.yaml for it", "new wine --from wine.csv", "new"),
    "weights": Command("fetch the weights of a pretrained network, once", "weights face", "weights"),
    "params": Command("compose conf/ into params.yaml, which dvc repro reads", "params loss=age_heavy", "params"),
    "search": Command(
        "search loss weights or other settings with Optuna", "search --trials 20 train.epochs=6", "search"
    ),
    "results": Command("print the test metrics", "results", "results"),
    "plots": Command("make `dvc plots` write pages that need no network", "plots", "plots"),
    "compare": Command("compare the trainings of a sweep, a search or a filter", "compare", "compare"),
    "ui": Command("serve the MLflow UI and print the address of the runs", "ui --port 5000", "ui"),
    "register": Command("register a run's model; it becomes champion if the test says so", "register", "register"),
    "predict": Command("predict every head for new samples", "predict posts.csv", "predict"),
    "export": Command("write the model as ONNX, LiteRT or SavedModel", "export --format onnx", "export"),
    "serve": Command("answer samples over HTTP, with a page to drop photographs on", "serve --port 8080", "serve"),
}
AFTER_SPLIT = ("audit", "train", "evaluate", "report")
INTERRUPTED = 130
MACHINE = 5
"""As of ``errors.MachineError``, which is imported later."""


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit; an expected error is printed as one line.

    Args:
        arguments: The command and its arguments; those of the process by default.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    _open_closed_streams()
    signals.install_handlers()
    mask_tracebacks()
    if "_ARGCOMPLETE" in os.environ:
        from manyheads.commands import completion

        completion.complete(*({name: command.summary for name, command in each.items()} for each in (STAGES, OTHERS)))
    try:
        if not arguments or arguments[0] in ("-h", "--help", "help"):
            print(usage(), flush=True)
            return
        if arguments[0] == "--version":
            from importlib.metadata import version

            print(f"manyheads {version('manyheads')}", flush=True)
            return
        code = _run(arguments[0], arguments[1:])
        sys.stdout.flush()
        sys.exit(code)
    except KeyboardInterrupt:
        with suppress(OSError):  # a terminal that was closed
            print("interrupted: the same command continues from the last complete result", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of the output has exited, as in `| head`. A message would have no reader.
        _discard_output()
        sys.exit(1)
    except OSError as error:
        # A command names the files of its own that it cannot read or write. What is left is the output and the machine.
        _discard_output()
        what = str(error.filename or "the output cannot be written")
        line = f"error: {masked(what)}: {error.strerror or error}{exhaustion.remedy(error)}"
        print(printable(line), file=sys.stderr)
        sys.exit(MACHINE)
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("manyheads."):
            raise
        remedy = "`make install` makes .venv, and `.venv/bin/python -m manyheads ...` uses it"
        print(f"error: {sys.executable} lacks the package {error.name}: {remedy}", file=sys.stderr)
        sys.exit(MACHINE)


def _open_closed_streams() -> None:
    """Open the null device for each standard stream that is closed, as in `>&-`; a file would take its place."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, mode))


def _discard_output() -> None:
    """Discard what is left to be printed, which Python would try to print again at its end."""
    with suppress(OSError):  # an output that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def usage() -> str:
    """Return the text of ``--help``."""
    lines = ["usage: python -m manyheads COMMAND ...", ""]
    for title, commands in (("stages, in the order of `dvc repro`", STAGES), ("others", OTHERS)):
        lines.append(f"{title}:")
        for name, command in commands.items():
            lines += [f"  {name:<10}{command.summary}", f"  {'':<10}  python -m manyheads {command.example}"]
        lines.append("")
    lines.append("`python -m manyheads COMMAND --help` tells more. A stage takes settings as `section.key=value` and")
    lines.append("`group=option`; train takes lists of them with --multirun. `python -m manyheads --version` tells the")
    lines.append("version, and `manyheads --install-completion` lets your shell complete commands and settings.")
    return "\n".join(lines)


def _run(name: str, arguments: list[str]) -> int:
    from manyheads.errors import ConfigError, ManyheadsError, did_you_mean
    from manyheads.paths import project_around
    from manyheads.tracking import killed_dvc

    log_to_stderr("%(message)s")
    try:
        Path.cwd()
    except FileNotFoundError:
        print("error: the working directory was deleted: cd into a folder that is there", file=sys.stderr)
        return MACHINE
    if root := project_around():
        killed_dvc.warn(root)
    try:
        with exhaustion.enough_memory():
            if name == "--install-completion":
                importlib.import_module("manyheads.commands.completion").install(arguments)
            elif name in STAGES:
                run_stage(name, arguments)
            elif name in OTHERS:
                importlib.import_module(f"manyheads.commands.{OTHERS[name].module}").main(arguments)
            else:
                known = [*STAGES, *OTHERS]
                raise ConfigError(f"unknown command {name!r}{did_you_mean(name, known)} (commands: {', '.join(known)})")
    except ManyheadsError as error:
        print(printable(f"error: {masked(_without_temporary_folder(str(error)))}"), file=sys.stderr)
        return error.exit_code
    return 0


def _without_temporary_folder(message: str) -> str:
    """Return a message without the folder of a temporary copy of the project, which is gone when it is read."""
    from manyheads.paths import is_temporary, project_around

    root = project_around()
    return message.replace(f"{root}/", "") if root and is_temporary(root) else message


def run_stage(name: str, arguments: list[str]) -> None:
    """Run a stage with composed settings.

    Args:
        name: Name of the stage.
        arguments: Overrides of ``conf/`` or, with ``--params`` among them, of ``params.yaml``. The stage ``train`` also
            takes Hydra's options, such as ``--multirun`` for a sweep.

    Raises:
        ManyheadsError: A setting or an option is unknown, or the stage failed.
    """
    from manyheads.config.composition import compose
    from manyheads.errors import ConfigError
    from manyheads.paths import project_root

    if {"-h", "--help"} & set(arguments):
        print(_stage_help(name))
        return
    root = project_root()
    os.chdir(root)
    options = [argument for argument in arguments if argument.startswith("-") and argument != "--params"]
    if options and name != "train":
        if {"-m", "--multirun"} & set(options):
            raise ConfigError(f"{name} has one result, which the stages after it read: only train can be swept")
        raise ConfigError(f"unknown option {options[0]!r}: {name} takes settings, such as seed=2, and --params")
    if options:
        _run_with_hydra(name, arguments)
        return
    overrides = [argument for argument in arguments if argument != "--params"]
    from_params = "--params" in arguments
    config = compose(root, overrides, from_params=from_params)
    if not from_params and name in AFTER_SPLIT:
        _require_own_data(config, root, overrides)
    _run_locked(name, config, root)


def _require_own_data(config: Config, root: Path, overrides: list[str]) -> None:
    """Raise an error if the packed data is that of other settings, such as another dataset with the same heads."""
    from manyheads.tracking import dvc

    if dvc.is_data_of_lock(root):
        dvc.require_settings_as_locked(config.model_dump(mode="json"), root, overrides)


def _run_locked(name: str, config: Config, root: Path) -> None:
    """Run a stage under a lock, because results of two processes would overwrite each other."""
    from manyheads.paths import Paths
    from manyheads.runtime.locks import exclusive_lock

    with exclusive_lock(root / f".cache/{name}.lock", f"writes what `{name}` writes in this project"):
        importlib.import_module(f"manyheads.stages.{STAGES[name].module}").run(config, Paths(root), Paths(root))


def _run_with_hydra(name: str, arguments: list[str]) -> None:
    """Run train as a Hydra application; with ``--multirun`` Hydra calls the sweeper of this project."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    from manyheads.config.composition import composition_error, config_files, refuse_null, require_names
    from manyheads.config.loading import load
    from manyheads.config.yaml_files import require_plain
    from manyheads.errors import ManyheadsError
    from manyheads.sweeps import grid

    require_names([argument for argument in arguments if not argument.startswith("-")])
    require_plain([Path.cwd() / "params.yaml"] if "--params" in arguments else config_files(Path.cwd() / "conf"))
    refusals: list[ManyheadsError] = []

    def task(values: DictConfig) -> None:
        try:
            _run_locked(name, load(values), Path.cwd())
        except ManyheadsError as error:
            refusals.append(error)  # raised below, because Hydra would add its own message

    settings = ["hydra.output_subdir=null", "hydra.run.dir=.", "hydra.sweep.dir=.cache/hydra"]
    settings += ["hydra.sweep.subdir=${hydra.job.num}", "hydra/job_logging=none", "hydra/hydra_logging=none"]
    config_source: list[str] = []
    if "--params" in arguments:
        config_source = ["--config-dir", str(Path.cwd()), "--config-name", "params"]
        arguments = [argument for argument in arguments if argument != "--params"]
    elif not any(argument.startswith(("--config-dir", "-cd")) for argument in arguments):
        config_source = ["--config-dir", str(Path.cwd() / "conf")]
        settings += grid.SETTINGS
    sys.argv = [f"python -m manyheads {name}", *config_source, *arguments, *settings]
    # Makes Hydra raise errors instead of printing its own report and exiting.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        hydra.main(version_base="1.3", config_path=None, config_name="config")(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise composition_error(error) from error
    except ValueError as error:
        refuse_null(error, arguments)
        raise
    if refusals:
        raise refusals[0]


def _stage_help(name: str) -> str:
    command = STAGES[name]
    several = " [--multirun]" if name == "train" else ""
    lines = [f"usage: python -m manyheads {name}{several} [GROUP=OPTION ...] [SECTION.KEY=VALUE ...]", ""]
    module = importlib.import_module(f"manyheads.stages.{command.module}")
    lines += [(module.__doc__ or "").strip(), "", "examples:", f"  python -m manyheads {command.example}"]
    if name == "train":
        lines += [
            "  python -m manyheads train -m loss=balanced,age_heavy loss.weights.age=0.5,1,2    six trials of a sweep",
            "  python -m manyheads train -m +sweep=loss_weights hydra/launcher=joblib           named, in parallel",
            "",
            "A sweep trains on the data that `dvc repro split` made, writes to reports/sweeps/, and ends with a",
            "comparison of its trials. The same command continues a sweep that was stopped.",
        ]
    lines += ["", "groups and their options (conf/):"]
    from manyheads.config.names import options_of_groups
    from manyheads.paths import project_root

    for group, options in options_of_groups(project_root()).items():
        lines.append(f"  {group:<11} {', '.join(options)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
