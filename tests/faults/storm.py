"""A storm: commands are killed at random moments and started again until they end, and must leave what they leave else.

    make faults                                           # the tests of the catalogue, then 40 kills
    python tests/faults/storm.py --kills 200 --seed 7

Each command first runs undisturbed. Then the same command, with all its processes, is killed after a random part of
that time (SIGKILL, so that nothing is cleaned up), and started again, up to a few times; at last it runs to its end.
Of a sweep that is recorded on a server, the server may be killed instead, and come back while the sweep runs on.
What a command leaves is compared with the undisturbed result: figures and files, the status of every MLflow run, the
branch, locks and unfinished files. After each kill of a DVC command the commands are run that the program tells then.
The command of the fewest kills so far is the next one.
"""

from __future__ import annotations

import argparse
import contextlib
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
import psutil

from clones import Clone
from forking import forking_python
from mlflow_servers import address_of, free_port, start_mlflow_server, wait_for

TINY = [
    *("train.epochs=3", "train.batch_size=256", "audit.folds=2", "audit.epochs=1"),
    *("model.widths=[8]", "model.blocks=[1]", "inputs.image.image_size=16", "split.limit=300", "train.optimizer=sgd"),
]
KILLS_IN_A_ROW = 8
"""Largest number of kills before a command may end."""

FIGURES = ("reports/metrics.json", "reports/evaluation.json", "reports/predictions.csv", "models/model.keras")
MENDING = re.compile(r"`dvc` command was killed: (.+) brings? back")
UNTIL_THE_END = 600
"""Seconds after which a command is taken to hang."""


class Scenario(NamedTuple):
    """A command, and what it must leave.

    Attributes:
        name: What it is called.
        command: The command.
        settings: The settings of ``params.yaml``.
        splits: Whether the data is split before.
        result: A function that returns what it leaves.
        like: The scenario that leaves the same.
        on_server: Whether its runs are recorded on a server, which may be killed instead of the command.
    """

    name: str
    command: tuple[str, ...]
    settings: tuple[str, ...]
    splits: bool
    result: Callable[[Clone], dict[str, Any]]
    like: str
    on_server: bool = False


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


SEED = "seed=3"
EXPERIMENT = ("dvc", "exp", "run", *(f"-S{setting}" for setting in (*TINY, SEED)))
SWEEP = ("python", "-m", "manyheads", "train", "-m", *TINY, "seed=1,2")
SEARCH = ("python", "-m", "manyheads", "search", "--trials", "2", *TINY)
SCENARIOS = (
    Scenario("dvc repro", ("dvc", "repro"), (*TINY, SEED), False, of_pipeline, like="dvc repro"),
    Scenario("dvc exp run", EXPERIMENT, tuple(TINY), True, of_pipeline, like="dvc repro"),
    Scenario("sweep", SWEEP, tuple(TINY), True, of_trials("sweeps"), like="sweep"),
    Scenario("search", SEARCH, tuple(TINY), True, of_trials("searches"), like="search"),
    Scenario("sweep on a server", SWEEP, tuple(TINY), True, of_trials("sweeps"), like="sweep", on_server=True),
)


def about(clone: Clone) -> dict[str, Any]:
    """Return what must hold after each command: ended runs, git on its branch, no lock, no unfinished file."""
    unfinished = [path for path in clone.root.rglob("*.tmp") if not {".git", ".dvc"} & set(path.parts)]
    locks = [*(clone.root / ".git").glob("*.lock"), *(clone.root / ".git/refs").rglob("*.lock")]
    return {
        "runs": sorted((run.info.run_name or "", run.info.status) for run in clone.runs()),
        "branch": clone.run("git", "branch", "--show-current").strip(),
        "waiting experiments": clone.run("git", "for-each-ref", "refs/exps/stash"),
        "unfinished files": [str(path.relative_to(clone.root)) for path in (*unfinished, *locks)],
        "open runs": sorted(path.name for path in (clone.root / ".cache/runs").glob("*.lock")),
    }


def _processes_in(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(folder):
                found.append(process)
    return found


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
        self.port = free_port()
        self.expected: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}

    def run(self, kills: int, say: Callable[[str], None] = print) -> Outcome:
        """Kill commands until there were ``kills`` kills; see the module."""
        done: Counter[str] = Counter()
        differences: list[str] = []
        ended = 0
        while done.total() < kills:
            fewest = min(done[scenario.name] for scenario in SCENARIOS)
            scenario = self.random.choice([each for each in SCENARIOS if done[each.name] == fewest])
            self._undisturbed(next(each for each in SCENARIOS if each.name == scenario.like))
            in_a_row = min(self.random.randint(1, KILLS_IN_A_ROW), kills - done.total()) if fewest else 1
            moments = [self.random.uniform(0, self.seconds[scenario.like]) for _ in range(in_a_row)]
            killed, found = self._killed(scenario, moments)
            done[scenario.name] += killed
            ended += 1
            wrong = [
                f"{scenario.name}, killed after {', '.join(f'{each:.2f}' for each in moments)} s: {key} is "
                f"{str(found.get(key))[:300]} instead of {str(value)[:300]}"
                for key, value in ({} if "end" in found else self.expected[scenario.like]).items()
                if found.get(key) != value
            ]
            wrong += [f"{scenario.name} does not run to its end: {found['end']}"] if "end" in found else []
            differences += wrong
            say(f"{done.total():4d} of {kills} kills: {scenario.name}, {killed} times: {'; '.join(wrong) or 'as else'}")
        return Outcome(done, ended, differences)

    def _undisturbed(self, scenario: Scenario) -> None:
        """Run a command to its end, and keep its result and its time."""
        if scenario.name in self.expected:
            return
        clone = self._prepared(scenario)
        began = time.monotonic()
        clone.run(*scenario.command, PYTHONPATH="src")
        self.seconds[scenario.name] = time.monotonic() - began
        self.expected[scenario.name] = scenario.result(clone) | about(clone)

    def _prepared(self, scenario: Scenario) -> Clone:
        """Return a fresh project for a scenario; all of them have the same path, which files hold."""
        kept = self.folder / f"prepared-{scenario.settings == tuple(TINY)}-{scenario.splits}"
        place = self.folder / "project"
        if place.exists():
            shutil.rmtree(place)
        if not kept.exists():
            place.mkdir()
            clone = Clone(place, self.python, scenario.settings)
            if scenario.splits:
                clone.run("dvc", "repro", "--quiet", "split")
                clone.commit("split")
            place.rename(kept)
        shutil.copytree(kept, place, symlinks=True)
        return Clone(place, self.python)

    def _killed(self, scenario: Scenario, moments: list[float]) -> tuple[int, dict[str, Any]]:
        """Kill a command at some moments, and let it run to its end; return the number of kills and what it leaves."""
        clone = self._prepared(scenario)
        settings = {"PYTHONPATH": "src"}
        server = None
        if scenario.on_server:
            settings["MLFLOW_TRACKING_URI"] = address_of(self.port)
            server = self._serve(clone)
        try:
            kills = 0
            for moment in moments:
                if server and self.random.random() < 0.5:
                    ended, server = self._without_server(clone, scenario, settings, server, moment)
                    kills += ended
                else:
                    kills += self._kill(clone, scenario, settings, moment)
                self._mend(clone)
            clone.run(*scenario.command, **settings)
            return kills, scenario.result(clone) | about(clone)
        except Exception as error:
            return kills, {"end": str(error)[-1500:]}
        finally:
            if server:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()

    def _serve(self, clone: Clone) -> subprocess.Popen[bytes]:
        folder = self.folder / "server"
        folder.mkdir(exist_ok=True)
        return start_mlflow_server(folder, clone.root / "mlflow.db", self.port)

    def _start(self, clone: Clone, scenario: Scenario, settings: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            scenario.command,
            cwd=clone.root,
            env=clone.environment | settings,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _kill(self, clone: Clone, scenario: Scenario, settings: dict[str, str], moment: float) -> bool:
        """Start a command and kill it, with all its processes, after some seconds; return whether it still ran."""
        with self._start(clone, scenario, settings) as process:
            try:
                process.wait(moment)
                return False
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        wait_for(lambda: not _processes_in(clone.root), "the end of the forks that stand for Python's processes")
        return True

    def _without_server(
        self,
        clone: Clone,
        scenario: Scenario,
        settings: dict[str, str],
        server: subprocess.Popen[bytes],
        moment: float,
    ) -> tuple[bool, subprocess.Popen[bytes]]:
        """Kill the server of a command after some seconds, and start it again; the command runs to its end."""
        with self._start(clone, scenario, settings) as process:
            try:
                process.wait(moment)
                return False, server
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
            time.sleep(self.random.uniform(0, 5))
            server = self._serve(clone)
            status = process.wait(UNTIL_THE_END)
        assert status == 0, f"{scenario.name} ends with {status} when its server is killed after {moment:.2f} s"
        return True, server

    def _mend(self, clone: Clone) -> None:
        """Do what the program tells after a killed command of DVC."""
        told = clone.run("python", "-m", "manyheads", "weights", PYTHONPATH="src")
        if found := MENDING.search(told):
            for command in re.findall("`([^`]+)`", found[1]):
                clone.run(*command.split())


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
