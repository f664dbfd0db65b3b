"""A registry without a server: tags of git in the format of GTO, which comes with DVC.

``NAME@v0.0.1`` registers a commit, ``NAME#champion#2`` gives it an alias, which GTO calls a stage. The message of the
first tag is the model card. That of the second is the record, a line each: ``name: text``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from manyheads.errors import ConfigError, DataError, IntegrityError
from manyheads.tracking import git, models
from manyheads.tracking.registry import Registry, Version


class _Tag(NamedTuple):
    action: str
    version: str
    stage: str
    counter: int
    commit: str
    message: str


class GitRegistry(Registry):
    """A registered model in the tags of the project's git repository."""

    def find(self, reference: str | None) -> models.RevisionModel:
        """Return the model of a git revision or a DVC experiment, ``HEAD`` by default; see the base class."""
        if reference is None and git.differs_from_head(self.root, "dvc.lock"):
            raise DataError("dvc.lock has changes that are not committed: run `git commit`, or name a revision")
        if found := models.revision(self.root, reference or "HEAD"):
            return found
        if reference is None:
            raise DataError(
                f"git gives no commit of {self.root}: run `git commit`, see what `git status` says, or register "
                "without --git"
            )
        raise DataError(f"git has no revision and no DVC experiment {reference!r}: see `dvc exp list`")

    @staticmethod
    def names(root: Path) -> list[str]:
        """Return the names of all registered models; see the base class."""
        from gto.tag import find, parse_name

        with _repository(root) as scm:
            return sorted({parse_name(tag.name)["name"] for tag in find(scm=scm)})

    def versions(self) -> dict[str, Version]:
        """Return all versions by number; see the base class."""
        tags = self._tags()
        given: dict[str, list[_Tag]] = {}
        for tag in tags:
            if tag.action == "assign":
                given.setdefault(tag.commit, []).append(tag)
        return {
            tag.version: Version(
                tag.version,
                models.RevisionModel(self.root, tag.version, tag.commit).key,
                _record(given.get(tag.commit, [])),
                tag.commit,
            )
            for tag in tags
            if tag.action == "register"
        }

    def holders(self) -> dict[str, str]:
        """Return the number of the version that has each alias; see the base class."""
        tags = self._tags()
        numbers = {tag.commit: tag.version for tag in tags if tag.action == "register"}
        holding: dict[str, list[str]] = {}
        for tag in tags:
            if tag.stage:
                commits = holding.setdefault(tag.stage, [])
                if tag.commit in commits:
                    commits.remove(tag.commit)
                if tag.action == "assign":
                    commits.append(tag.commit)
        return {stage: numbers[commits[-1]] for stage, commits in holding.items() if commits and commits[-1] in numbers}

    def model_of(self, version: Version) -> models.RevisionModel:
        """Return the model of a version; see the base class."""
        return models.RevisionModel(self.root, f"{self.name}@{version.number}", version.source)

    def add(self, model: models.StoredModel, card: str) -> Version:
        """Register a commit; see the base class."""
        import gto.api

        if not isinstance(model, models.RevisionModel):
            raise IntegrityError(f"{model.name} is not in git")
        with _errors():
            made = gto.api.register(self.root, self.name, model.commit, message=card or f"The model of {model.name}")
        return Version(made.version, model.key, source=model.commit)

    def assign(self, alias: str, version: Version, record: Mapping[str, str]) -> None:
        """Give a version an alias; see the base class."""
        import gto.api

        lines = [f"{name}: {' '.join(text.split())}" for name, text in record.items()]
        message = "\n".join([f"{version.number} is {alias}", "", *lines])
        with _errors():
            gto.api.assign(self.root, self.name, alias, version=version.number, message=message, force=True)

    def release(self, alias: str) -> None:
        """Take an alias from its version; see the base class."""
        import gto.api

        if number := self.holders().get(alias):
            with _errors():
                gto.api.unassign(self.root, self.name, version=number, stage=alias)

    def reference(self, version: str) -> str:
        """Return what ``--model`` takes; see the base class."""
        return f"{self.name}@{version}"

    def after(self, version: Version) -> str:
        """Return the command that passes the tags on; see the base class."""
        del version
        return "tags of git; `git push --tags` passes them on, `gto show` lists them"

    def _tags(self) -> list[_Tag]:
        """Return the tags of this model, registrations first, then by GTO's counter."""
        from gto.tag import find, parse_name

        with _repository(self.root) as scm:
            found = [
                _Tag(
                    parsed["action"].value, parsed.get("version", ""), parsed.get("stage", ""),
                    parsed.get("counter", 0), tag.target, tag.message,
                )
                for tag in find(scm=scm, name=self.name) for parsed in [parse_name(tag.name)]
            ]  # fmt: skip
        # Times of tags are whole seconds, so that two tags may have the same.
        return sorted(found, key=lambda tag: tag.counter)


def default_name(root: Path) -> str:
    """Return the name of the artifact ``models`` in ``dvc.yaml``, by which ``dvc artifacts get`` knows it.

    Raises:
        ConfigError: It has none.
    """
    listed: Mapping[str, Any] = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8")).get("artifacts") or {}
    found = next((name for name, artifact in listed.items() if artifact.get("path") == "models"), None)
    if found is None:
        raise ConfigError("dvc.yaml has no artifact with the path models: add it below artifacts:, or give --name")
    return str(found)


def _record(tags: list[_Tag]) -> dict[str, str]:
    """Return the record of a version from the tags that gave it an alias; later ones replace earlier ones."""
    lines = [line for tag in tags for line in tag.message.splitlines()[1:]]
    return dict(line.split(": ", 1) for line in lines if ": " in line)


@contextmanager
def _repository(root: Path) -> Iterator[Any]:
    """Yield the git repository around a folder, for GTO."""
    from scmrepo.git import Git

    with _errors(), closing(Git(str(root), search_parent_directories=True)) as scm:
        yield scm


@contextmanager
def _errors() -> Iterator[None]:
    """Raise errors of GTO and git as one line."""
    from gto.exceptions import GTOException
    from scmrepo.exceptions import SCMError

    try:
        yield
    except (GTOException, SCMError) as error:
        raise DataError(f"git: {' '.join(str(error).split())}") from error
