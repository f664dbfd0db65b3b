"""A storm: commands are killed at random moments and started again until they end, and must leave what they leave else.

    make faults                                           # 40 kills
    python tests/faults/storm.py --kills 200 --seed 7

Each command first runs undisturbed. Then the same command, with all its processes, is killed after a random part of
that time (SIGKILL, so that nothing is cleaned up), and started again, up to a few times; at last it runs to its end.
What it leaves is compared with the undisturbed result: figures and files, the status of every MLflow run, the branch,
and unfinished files. A `dvc exp run` is mended with the two commands that the program tells after the kill.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import pandas as pd

from clones import Clone
from forking import forking_python

TINY = [
    *("train.epochs=3", "train.batch_size=256", "audit.folds=2", "audit.epochs=1"),
    *("model.widths=[8,8]", "model.blocks=[1,1]", "inputs.image.image_size=16"),
]
KILLS_IN_A_ROW = 4
"""Largest number of kills before a command may end."""

FIGURES = ("reports/metrics.json", "reports/evaluation.json", "reports/predictions.csv", "models/model.keras")
MENDING = re.compile(r"`(git checkout --force \S+)` and `(dvc checkout)`")


class Scenario(NamedTuple):
    """A command, the command that prepares it, and what it leaves."""

    name: str
    command: tuple[str, ...]
    prepared_by: tuple[str, ...]
    result: Callable[[Clone], dict[str, Any]]


class Outcome(NamedTuple):
    """What a storm found.

    Attributes:
        kills: Number of kills by command.
        ended: Number of commands that ran to their end.
        differences: What differed from the undisturbed results, in words.
    """

    kills: Counter[str]
    ended: int
    differences: list[str]


def of_pipeline(clone: Clone) -> dict[str, Any]:
    """Return the figures and files of the pipeline, and whether DVC finds it up to date."""
    found: dict[str, Any] = {name: hashlib.sha256((clone.root / name).read_bytes()).hexdigest() for name in FIGURES}
    return found | {"metrics": json.loads((clone.root / FIGURES[0]).read_text()), "up to date": clone.up_to_date()}


def of_trials(folder: str) -> Callable[[Clone], dict[str, Any]]:
    """Return a function for the table of trials, without what differs from run to run."""

    def result(clone: Clone) -> dict[str, Any]:
        (path,) = (clone.root / "reports" / folder).glob("*/trials.csv")
        trials = pd.read_csv(path).drop(columns=["wall_seconds", "run_id"]).sort_values("name")
        return {"trials": trials.to_csv(index=False)}

    return result


SCENARIOS = (
    Scenario("dvc repro", ("dvc", "repro"), (), of_pipeline),
    Scenario(
        "dvc exp run",
        ("dvc", "exp", "run", *(f"-S{setting}" for setting in (*TINY, "seed=3"))),
        ("dvc", "repro"),
        of_pipeline,
    ),
    Scenario(
        "sweep",
        ("python", "-m", "manyheads", "train", "-m", *TINY, "seed=1,2"),
        ("dvc", "repro", "--quiet", "split"),
        of_trials("sweeps"),
    ),
    Scenario(
        "search",
        ("python", "-m", "manyheads", "search", "--trials", "2", *TINY),
        ("dvc", "repro", "--quiet", "split"),
        of_trials("searches"),
    ),
)


def about(clone: Clone) -> dict[str, Any]:
    """Return what must hold after each command: ended runs, git on its branch, no unfinished file, no open run."""
    unfinished = [path for path in clone.root.rglob("*.tmp") if not {".git", ".dvc"} & set(path.parts)]
    return {
        "runs": sorted({run.info.status for run in clone.runs()}),
        "branch": clone.run("git", "branch", "--show-current").strip(),
        "unfinished files": [str(path.relative_to(clone.root)) for path in unfinished],
        "open runs": sorted(path.name for path in (clone.root / ".cache/runs").glob("*.lock")),
    }


class Storm:
    """Kills commands in copies of a project.

    Args:
        folder: An empty folder.
        python: The program that stands for Python; see ``forking``.
        seed: Seed of the commands and the moments.
    """

    def __init__(self, folder: Path, python: str, seed: int):
        self.folder = folder
        self.python = python
        self.random = random.Random(seed)
        self.template = Clone(self._empty("template"), python, TINY)
        self.expected: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}

    def _empty(self, name: str) -> Path:
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def _prepared(self, scenario: Scenario) -> Clone:
        """Return a fresh project for a scenario; all of them have the same path, which files hold."""
        kept = self.folder / f"prepared-{SCENARIOS.index(scenario)}"
        place = self.folder / "project"
        shutil.rmtree(place, ignore_errors=True)
        if kept.exists():
            shutil.copytree(kept, place, symlinks=True)
            return Clone(place, self.python)
        shutil.copytree(self.template.root, place, symlinks=True)
        clone = Clone(place, self.python)
        if scenario.prepared_by:
            clone.run(*scenario.prepared_by)
            clone.commit("prepared")
        shutil.copytree(place, kept, symlinks=True)
        return clone

    def undisturbed(self, scenario: Scenario) -> None:
        """Run a command to its end, and keep its result and its time."""
        clone = self._prepared(scenario)
        began = time.monotonic()
        clone.run(*scenario.command, PYTHONPATH="src")
        self.seconds[scenario.name] = time.monotonic() - began
        self.expected[scenario.name] = scenario.result(clone) | about(clone)

    def run(self, kills: int, say: Callable[[str], None] = print) -> Outcome:
        """Kill commands until there were ``kills`` kills; see the module."""
        done: Counter[str] = Counter()
        differences: list[str] = []
        ended = 0
        while done.total() < kills:
            scenario = self.random.choice(SCENARIOS)
            if scenario.name not in self.expected:
                self.undisturbed(scenario)
            clone = self._prepared(scenario)
            in_a_row = min(self.random.randint(1, KILLS_IN_A_ROW), kills - done.total())
            moments = [self.random.uniform(0, self.seconds[scenario.name]) for _ in range(in_a_row)]
            killed = sum(self._kill(clone, scenario, moment) for moment in moments)
            done[scenario.name] += killed
            found = self._to_its_end(clone, scenario)
            ended += 1
            wrong = [
                f"{scenario.name}, killed after {', '.join(f'{each:.2f}' for each in moments)} s: {key} is "
                f"{str(found.get(key))[:300]} instead of {str(value)[:300]}"
                for key, value in ({} if "end" in found else self.expected[scenario.name]).items()
                if found.get(key) != value
            ]
            wrong += [f"{scenario.name} does not run to its end: {found['end']}"] if "end" in found else []
            differences += wrong
            say(f"{done.total():4d} of {kills} kills: {scenario.name}, {killed} times: {'; '.join(wrong) or 'as else'}")
        return Outcome(done, ended, differences)

    def _kill(self, clone: Clone, scenario: Scenario, moment: float) -> bool:
        """Start a command and kill it, with all its processes, after some seconds; return whether it still ran."""
        self._mend(clone)
        with subprocess.Popen(
            scenario.command,
            cwd=clone.root,
            env=clone.environment | {"PYTHONPATH": "src"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                process.wait(moment)
                return False
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.1)  # the forks that stand for Python's processes end with their programs
        return True

    def _mend(self, clone: Clone) -> None:
        """Do what the program tells after a killed `dvc exp run`."""
        told = clone.run("python", "-m", "manyheads", "plots", PYTHONPATH="src")
        if found := MENDING.search(told):
            for command in found.groups():
                clone.run(*command.split())

    def _to_its_end(self, clone: Clone, scenario: Scenario) -> dict[str, Any]:
        try:
            self._mend(clone)
            clone.run(*scenario.command, PYTHONPATH="src")
            return scenario.result(clone) | about(clone)
        except Exception as error:
            return {"end": str(error)[-1500:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40, help="number of kills (default: 40)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="seed of the commands and the moments")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder, forking_python() as python:
        outcome = Storm(Path(folder), python, options.seed).run(options.kills, lambda text: print(text, flush=True))
    counts = ", ".join(f"{count} in {name}" for name, count in sorted(outcome.kills.items()))
    print(
        f"seed {options.seed}: {outcome.kills.total()} kills ({counts}), {outcome.ended} commands ran to their end, "
        f"{len(outcome.differences)} differences from the undisturbed results"
    )
    sys.exit(bool(outcome.differences))


if __name__ == "__main__":
    main()
