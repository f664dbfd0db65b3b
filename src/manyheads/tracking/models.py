"""Trained models in stores: that of an MLflow run, and that of a git revision with DVC.

A reference of a user, such as a run's id or ``models:/faces@champion``, leads to one of them; see ``references``.
"""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import yaml

from manyheads.errors import DataError, IntegrityError
from manyheads.runtime.files import atomic_write
from manyheads.runtime.locks import waiting_lock
from manyheads.tracking import dvc, git, logged_model
from manyheads.tracking.runs import model_tag
from manyheads.tracking.store import load_mlflow, open_store, reason_of, tracking_uri

REPORTS = ("evaluation.json", "model_card.md")
"""What a fetched model has beside its files, if the store has it."""


class StoredModel(ABC):
    """A trained model in a store.

    Attributes:
        root: The project's root folder.
        name: What the store calls it, for people.
        key: Digest of the model, which names its folder in the cache.
    """

    root: Path
    name: str
    key: str

    @abstractmethod
    def download(self, folder: Path) -> None:
        """Write the files of the saved model into an existing folder.

        Raises:
            DataError: The store does not have them.
        """

    @abstractmethod
    def file(self, name: str, folder: Path) -> Path | None:
        """Download a file of the training or its evaluation.

        Args:
            name: ``params.yaml``, ``predictions.csv``, ``evaluation.json`` or ``model_card.md``.
            folder: Where to write it.

        Returns:
            The path of the file, or None if the store does not have it.
        """

    @abstractmethod
    def evaluate_it(self) -> str:
        """Return how to get the test predictions that are missing, for an error."""


class RunModel(StoredModel):
    """The model of an MLflow run.

    Attributes:
        run: The run, as MLflow returns it.
        model_id: Id of its logged model, or an empty text if it has none.
    """

    def __init__(self, root: Path, run: Any, model_id: str = "") -> None:
        self.root = root
        self.run = run
        self.name = f"run {run.info.run_id[:8]}"
        self.key = run.data.tags.get("model", "")
        logged = run.outputs.model_outputs if run.outputs else []
        self.model_id = model_id or (logged[-1].model_id if logged else "")

    def download(self, folder: Path) -> None:
        """Write the files of the saved model into an existing folder; see the base class."""
        if not self.model_id:
            raise DataError(f"MLflow does not have the model of {self.name}: train it again")
        with open_store(self.root) as client:
            location = client.get_logged_model(self.model_id).artifact_location
            try:
                self._download(f"{location}/{logged_model.FOLDER}", folder)
            except Exception as error:  # whatever a store, a driver or a server raises
                raise DataError(
                    f"{self.name} has no {logged_model.FOLDER} in its model ({reason_of(error)}): train it again"
                ) from error
        if model_tag(folder) != self.key:
            raise IntegrityError(f"the model of {self.name} in MLflow is not the one that it trained: train it again")

    def _download(self, address: str, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            found = load_mlflow().artifacts.download_artifacts(
                artifact_uri=address, dst_path=temporary, tracking_uri=tracking_uri(self.root)
            )
            shutil.copytree(found, folder, dirs_exist_ok=True)

    def file(self, name: str, folder: Path) -> Path | None:
        """Download an artifact of the run; see the base class."""
        with open_store(self.root) as client:
            if name not in {artifact.path for artifact in client.list_artifacts(self.run.info.run_id)}:
                return None
            return Path(client.download_artifacts(self.run.info.run_id, name, str(folder)))

    def data_digest(self) -> str:
        """Return the digest of the raw data that the run was trained on, as ``dvc.lock`` had it."""
        entries = self.run.inputs.dataset_inputs if self.run.inputs else []
        return next((entry.dataset.digest for entry in entries), "not recorded")

    def evaluate_it(self) -> str:
        """Return the command that evaluates the run's settings."""
        promote = self.run.data.tags.get("promote")
        return f"promote it with `{promote}`" if promote else "promote it with `dvc exp run`, or run `dvc repro`"


class RevisionModel(StoredModel):
    """The model of a git revision: what its ``dvc.lock`` says that the stage train wrote.

    Attributes:
        commit: The whole hash of the commit.
    """

    def __init__(self, root: Path, revision: str, commit: str) -> None:
        self.root = root
        self.commit = commit
        self.name = f"git revision {revision}"
        self._lock = yaml.safe_load(git.text_at(root, commit, "dvc.lock") or "{}").get("stages", {})
        self.key = self._digest("train", "outs", "models").removesuffix(".dir")

    def _digest(self, stage: str, kind: str, path: str) -> str:
        entries = self._lock.get(stage, {}).get(kind, [])
        return next((str(entry["md5"]) for entry in entries if entry["path"] == path), "")

    @property
    def is_evaluated(self) -> bool:
        """Whether the evaluation in ``dvc.lock`` is one of this model."""
        return self._digest("evaluate", "deps", "models") == self._digest("train", "outs", "models") != ""

    def tag(self) -> str:
        """Return the tag ``model`` of the runs of this model, or an empty text if DVC does not have its card."""
        with tempfile.TemporaryDirectory() as temporary:
            missing = dvc.fetch_output(
                self.root, self.root / "models/model.json", self.commit, Path(temporary) / "model.json"
            )
            return "" if missing else model_tag(Path(temporary))

    def download(self, folder: Path) -> None:
        """Write the files of the saved model into an existing folder; see the base class."""
        with tempfile.TemporaryDirectory() as temporary:
            found = Path(temporary) / "models"
            if reason := dvc.fetch_output(self.root, self.root / "models", self.commit, found):
                raise DataError(f"DVC does not have the model of {self.name} ({reason}): run `dvc pull` or `dvc fetch`")
            for file in found.iterdir():
                shutil.copyfile(file, folder / file.name)  # DVC's own are links into its cache, which nobody may write

    def file(self, name: str, folder: Path) -> Path | None:
        """Get a file of the revision from git or DVC; see the base class."""
        if name != "params.yaml" and not self.is_evaluated:
            return None
        path = name if name == "params.yaml" else f"reports/{name}"
        target = folder / name
        # Git answers at once, and DVC after a second or two.
        if (text := git.text_at(self.root, self.commit, path)) is not None:
            target.write_text(text, encoding="utf-8")
        elif dvc.fetch_output(self.root, self.root / path, self.commit, target):
            return None
        return target

    def evaluate_it(self) -> str:
        """Return the commands that evaluate and commit."""
        return "run `dvc repro`, then `git commit`"


def run_model(root: Path, run_id: str, model_id: str = "") -> RunModel:
    """Return the model of an MLflow run.

    Args:
        root: The project's root folder.
        run_id: The whole id of the run.
        model_id: Id of the logged model; the run's last one by default.
    """
    with open_store(root) as client:
        return RunModel(root, client.get_run(run_id), model_id)


def revision(root: Path, reference: str) -> RevisionModel | None:
    """Return the model of a git revision or of a DVC experiment, or None if git knows no such name.

    Raises:
        DataError: The revision has no model in its ``dvc.lock``.
    """
    if not (commit := git.commit_of(root, reference)):
        return None
    model = RevisionModel(root, reference, commit)
    if not model.key:
        raise DataError(f"{model.name} has no model in its dvc.lock: run `dvc repro` there, then `git commit`")
    return model


def fetch(model: StoredModel, cache: Path) -> Path:
    """Return the folder of a stored model on disk; it is downloaded once.

    Args:
        model: The model.
        cache: Folder with a folder for each model.

    Raises:
        DataError: The store does not have the model.
    """
    if not model.key:
        raise DataError(f"{model.name} has no model: it is a sweep, a search, or a training that did not end")
    folder = cache / model.key
    with waiting_lock(cache / f"{model.key}.lock"):
        if not (folder / "model.json").exists():
            with atomic_write(folder) as unfinished:
                unfinished.mkdir()
                model.download(unfinished)
        missing = [name for name in REPORTS if not (folder / name).exists()]
        with tempfile.TemporaryDirectory() as temporary:
            for name in missing:  # evaluate and report may have come after the download
                if found := model.file(name, Path(temporary)):
                    with atomic_write(folder / name) as unfinished:
                        shutil.copyfile(found, unfinished)
    return folder
