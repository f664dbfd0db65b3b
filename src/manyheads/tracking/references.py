"""References to trained models: what ``--model`` takes beside a folder.

The form of a reference decides where it is looked up, in this order:

1. ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``: MLflow's registry.
2. ``NAME@ALIAS`` or ``NAME@v1.0.0``: tags of git.
3. Anything else: the id of an MLflow run or its first characters, a DVC experiment, a git revision.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from manyheads.errors import DataError, MachineError, did_you_mean
from manyheads.tracking import models, queries
from manyheads.tracking.git_registry import GitRegistry
from manyheads.tracking.registry import MlflowRegistry, Registry

IN_MLFLOW = re.compile(r"models:/(?P<name>[^/@]+)[/@](?P<version>[^/@]+)")
IN_GIT = re.compile(r"(?P<name>[^/@:]+)@(?P<version>[^/@{]+)")


def find(root: Path, experiment: str, reference: str) -> models.StoredModel:
    """Return the stored model that a reference names.

    Args:
        root: The project's root folder; outside of a project any folder, and only MLflow's registry is asked.
        experiment: Name of the MLflow experiment of the project's runs, or an empty text outside of a project.
        reference: The reference; see the module.

    Raises:
        DataError: There is no such model. The message says where it was looked up.
        MachineError: The MLflow store cannot be reached.
    """
    if found := IN_MLFLOW.fullmatch(reference):
        return _registered(MlflowRegistry(root, found["name"], experiment), found["version"])
    if reference.startswith("models:"):
        raise DataError(f"{reference!r} is not models:/NAME@ALIAS and not models:/NAME/VERSION")
    if not experiment:
        raise DataError(
            f"{reference} is no folder, and {Path.cwd()} is in no manyheads project: name a folder or "
            "models:/NAME@ALIAS, or cd into your clone"
        )
    if found := IN_GIT.fullmatch(reference):
        return _registered(GitRegistry(root, found["name"]), found["version"])
    tried = ["no folder"]
    try:
        run = queries.named_run(experiment, root, reference)
        if run is not None:
            return models.run_model(root, run.run_id)
        tried.append(f"no run and no DVC experiment of {experiment!r} in MLflow")
    except (DataError, MachineError) as error:
        tried.append(str(error))
    if (model := models.revision(root, reference)) is not None:
        return model
    tried.append("no git revision and no DVC experiment in git")
    raise DataError(f"there is no model {reference!r} ({'; '.join(tried)}){did_you_mean(reference, _champions(root))}")


def _registered(registry: Registry, version: str) -> models.StoredModel:
    return registry.model_of(registry.version_named(version))


def _champions(root: Path) -> list[str]:
    """Return references to the champions of both registries, without a registry that cannot be read."""
    found: list[str] = []
    for form, registry in (("{}@champion", GitRegistry), ("models:/{}@champion", MlflowRegistry)):
        with suppress(DataError, MachineError):
            found += [form.format(name) for name in registry.names(root)]
    return found
