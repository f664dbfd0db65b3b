"""Registries of models: the one of MLflow, and a common interface with tags of git (``git_registry``).

A registered model has versions. The alias ``champion`` names the version in use, ``challenger`` the last one that the
gate refused. A version's record says how it got its alias.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from manyheads.errors import ConfigError, DataError, IntegrityError, did_you_mean
from manyheads.paths import main_project
from manyheads.runtime.locks import waiting_lock
from manyheads.tracking import models, queries, runs, views
from manyheads.tracking.store import masked_tags, open_store

CHAMPION = "champion"
CHALLENGER = "challenger"

NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_-]*[a-zA-Z0-9])?")
"""Names that both registries take."""

LONGEST_DESCRIPTION = 5000
"""Number of characters of a version's description that MLflow's databases hold."""

PROVENANCE = ("data", "split", "model", "git.commit", "git.dirty", "dvc.experiment")
"""Tags of a run that its version gets."""


class Version(NamedTuple):
    """A version of a registered model.

    Attributes:
        number: ``3`` in MLflow, ``v0.0.3`` in git.
        key: Digest of the model.
        record: What is known of it by name, such as why it is the champion.
        source: Where its model is: id of a run, or a commit.
        model_id: Id of the logged model in MLflow.
    """

    number: str
    key: str
    record: Mapping[str, str] = MappingProxyType({})
    source: str = ""
    model_id: str = ""


class Registry(ABC):
    """The versions of one registered model.

    Attributes:
        root: The project's root folder.
        name: Name of the registered model.
    """

    def __init__(self, root: Path, name: str) -> None:
        if not NAME.fullmatch(name):
            raise ConfigError(f"a registered model cannot be called {name!r}: use letters, digits, '-' and '_'")
        self.root = root
        self.name = name

    @abstractmethod
    def find(self, reference: str | None) -> models.StoredModel:
        """Return the model that a user names, or the project's own.

        Raises:
            DataError: There is no such model.
        """

    @staticmethod
    @abstractmethod
    def names(root: Path) -> list[str]:
        """Return the names of all registered models of a project."""

    @abstractmethod
    def versions(self) -> dict[str, Version]:
        """Return all versions by number, the oldest first."""

    @abstractmethod
    def holders(self) -> dict[str, str]:
        """Return the number of the version that has each alias."""

    @abstractmethod
    def model_of(self, version: Version) -> models.StoredModel:
        """Return the model of a version."""

    @abstractmethod
    def add(self, model: models.StoredModel, card: str) -> Version:
        """Register a model as the next version.

        Args:
            model: The model.
            card: Its model card in Markdown, the description of the version.
        """

    @abstractmethod
    def assign(self, alias: str, version: Version, record: Mapping[str, str]) -> None:
        """Give an alias to a version, and record why."""

    @abstractmethod
    def release(self, alias: str) -> None:
        """Take an alias from the version that has it."""

    @abstractmethod
    def reference(self, version: str) -> str:
        """Return what ``--model`` takes for a version's number or an alias."""

    @abstractmethod
    def after(self, version: Version) -> str:
        """Return a line about what to do or to open next."""

    def version_named(self, wanted: str) -> Version:
        """Return a version by its number or its alias.

        Raises:
            DataError: There is no such version.
        """
        versions, holders, reference = self.versions(), self.holders(), self.reference(wanted)
        if found := versions.get(holders.get(wanted, wanted)):
            return found
        if not versions:
            near = did_you_mean(self.name, self.names(self.root))
            raise DataError(f"{reference}: no model is registered as {self.name!r}{near}")
        known = [self.reference(each) for each in (*holders, *versions)]
        raise DataError(f"{reference}: no such version{did_you_mean(reference, known)} (known: {', '.join(known)})")


def register_lock(root: Path) -> AbstractContextManager[None]:
    """Hold the lock under which a process of this project judges models and moves aliases."""
    return waiting_lock(main_project(root) / ".cache/register.lock")


class MlflowRegistry(Registry):
    """A registered model in the MLflow store.

    Attributes:
        experiment: Name of the MLflow experiment of the project's runs.
    """

    def __init__(self, root: Path, name: str, experiment: str) -> None:
        super().__init__(root, name)
        self.experiment = experiment

    def find(self, reference: str | None) -> models.RunModel:
        """Return the model of a run; see the base class.

        Args:
            reference: Id of a run, its first characters, a DVC experiment or a git revision.
        """
        if reference is None:
            tag = runs.model_tag(self.root / "models")
            run = queries.run_of_model(self.experiment, self.root, tag)
            missing = f"no run has the model of models/ ({tag}): run `dvc repro`, or name a run"
        else:
            run = queries.named_run(self.experiment, self.root, reference)
            if run is None and (tag := self._tag_at(reference)):
                run = queries.run_of_model(self.experiment, self.root, tag)
            missing = f"{reference!r} is no run, no DVC experiment and no git revision with a run: see `make ui`"
        if run is None:
            raise DataError(missing)
        model = models.run_model(self.root, run.run_id)
        if not model.model_id:
            raise DataError(f"{model.name} has no model in MLflow: run `dvc repro --force train`")
        return model

    def _tag_at(self, reference: str) -> str:
        """Return the tag of the model of a git revision, or an empty text."""
        model = models.revision(self.root, reference)
        return model.tag() if model else ""

    @staticmethod
    def names(root: Path) -> list[str]:
        """Return the names of all registered models; see the base class."""
        with open_store(root) as client:
            return [each.name for each in client.search_registered_models()]

    def versions(self) -> dict[str, Version]:
        """Return all versions by number; see the base class."""
        with open_store(self.root) as client:
            found = client.search_model_versions(f"name = '{self.name}'")
            return {
                str(each.version): Version(
                    str(each.version), each.tags.get("model", ""), each.tags, each.run_id or "", _model_id(each.source)
                )
                for each in sorted(found, key=lambda each: int(each.version))
            }

    def holders(self) -> dict[str, str]:
        """Return the number of the version that has each alias; see the base class."""
        with open_store(self.root) as client:
            registered = _registered(client, self.name)
            return {alias: str(number) for alias, number in registered.aliases.items()} if registered else {}

    def model_of(self, version: Version) -> models.RunModel:
        """Return the model of a version; see the base class."""
        if not version.source or not version.model_id:
            raise DataError(f"{self.reference(version.number)} is no logged model of a run: register a run's model")
        return models.run_model(self.root, version.source, version.model_id)

    def add(self, model: models.StoredModel, card: str) -> Version:
        """Register the logged model of a run; see the base class."""
        if not isinstance(model, models.RunModel):
            raise IntegrityError(f"{model.name} is not in MLflow")
        run = model.run
        tags = {name: run.data.tags[name] for name in PROVENANCE if name in run.data.tags}
        tags |= {"run": run.info.run_id, "data_digest": model.data_digest()}
        with open_store(self.root) as client:
            if _registered(client, self.name) is None:
                client.create_registered_model(self.name)
            made = client.create_model_version(
                self.name,
                # Not runs:/..., because a version knows its logged model by this address alone.
                f"models:/{model.model_id}",
                run.info.run_id,
                masked_tags(tags),
                description=_shortened(card),
                model_id=model.model_id,
            )
            _link(client, model.model_id, self.name, str(made.version))
        return Version(str(made.version), model.key, tags, run.info.run_id, model.model_id)

    def assign(self, alias: str, version: Version, record: Mapping[str, str]) -> None:
        """Give an alias to a version; see the base class."""
        with open_store(self.root) as client:
            # Before the alias, so that another machine that sees the alias sees the record, too.
            for name, text in masked_tags(record).items():
                client.set_model_version_tag(self.name, version.number, name, text)
            client.set_registered_model_alias(self.name, alias, version.number)

    def release(self, alias: str) -> None:
        """Take an alias from its version; see the base class."""
        with open_store(self.root) as client:
            client.delete_registered_model_alias(self.name, alias)

    def reference(self, version: str) -> str:
        """Return what ``--model`` takes; see the base class."""
        return f"models:/{self.name}{'/' if version.isdecimal() else '@'}{version}"

    def after(self, version: Version) -> str:
        """Return the address of the version's page; see the base class."""
        return views.opening(
            self.root, f"{views.ui_address(self.root)}{views.page_of_version(self.name, version.number)}"
        )


def _registered(client: Any, name: str) -> Any:
    """Return a registered model, or None if there is none of that name."""
    found = client.search_registered_models(f"name = '{name}'")
    # Some searches leave out the aliases.
    return client.get_registered_model(name) if found else None


def _model_id(source: str) -> str:
    """Return the id of the logged model that a version was made of, or an empty text."""
    found = re.fullmatch(r"models:/(m-\w+)", source)
    return found[1] if found else ""


def _link(client: Any, model_id: str, name: str, number: str) -> None:
    """Have the UI show a version on the page of its logged model, which a server does by itself."""
    known = json.loads(client.get_logged_model(model_id).tags.get("mlflow.modelVersions", "[]"))
    if not any((each["name"], str(each["version"])) == (name, number) for each in known):
        linked = json.dumps([*known, {"name": name, "version": number}])
        client.set_logged_model_tags(model_id, {"mlflow.modelVersions": linked})


def _shortened(card: str) -> str:
    end = "\n\nThe rest stands in the run's artifact `model_card.md`."
    return card if len(card) <= LONGEST_DESCRIPTION else card[: LONGEST_DESCRIPTION - len(end)].rstrip() + end
