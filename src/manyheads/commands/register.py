"""Register: a run's model in a registry, and the gate that decides whether it becomes the champion."""

from __future__ import annotations

import logging
import re
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml

from manyheads.commands import parsers
from manyheads.config.loading import load, read_params
from manyheads.config.schema import Config
from manyheads.config.yaml_files import require_plain
from manyheads.data.tables import read_predictions
from manyheads.errors import ConfigError, DataError, IntegrityError, MachineError, NotPromoted
from manyheads.evaluation.promotion import Evaluated, Judgement, judge, require_head
from manyheads.paths import project_root
from manyheads.reporting import promotion
from manyheads.runtime import printing
from manyheads.tracking import git_registry
from manyheads.tracking.git_registry import GitRegistry
from manyheads.tracking.models import StoredModel
from manyheads.tracking.registry import CHALLENGER, CHAMPION, MlflowRegistry, Registry, Version, register_lock

logger = logging.getLogger(__name__)

BEFORE, SINCE = "champion.before", "champion.since"
"""Names in the record of a champion: the version before it, and when it became champion."""

REFUSED = "refused"
"""What the record of a challenger says of the gate."""


def main(arguments: list[str]) -> None:
    """Parse the command line, register, and judge.

    Raises:
        NotPromoted: The model is registered, but the gate made it the challenger.
    """
    parser = parsers.register()
    options = parser.parse_args(arguments)
    if options.rollback and (options.run or options.require or options.force):
        parser.error("--rollback takes --name and --git and nothing else")
    root = project_root()
    config = read_params(root / "params.yaml")
    with register_lock(root):
        if options.git:
            _act(GitRegistry(root, options.name or git_registry.default_name(root)), config, options)
            return
        name = options.name or default_name(config)
        try:
            _act(MlflowRegistry(root, name, config.tracking.experiment), config, options)
        except MachineError as error:
            raise MachineError(f"{error}; --git registers in tags of git, without a server") from error


def default_name(config: Config) -> str:
    """Return the name of a project's registered model: the MLflow experiment and the data, such as manyheads-sample."""
    return re.sub("[^a-z0-9]+", "-", f"{config.tracking.experiment}-{config.data.title}".lower()).strip("-")


def _act(registry: Registry, config: Config, options: Namespace) -> None:
    if options.rollback:
        _roll_back(registry)
        return
    model = registry.find(options.run)
    with tempfile.TemporaryDirectory() as folder:
        candidate = _evaluated(model, config.extensions, Path(folder))
        require_head(candidate.heads, options.require)
        file = model.file("model_card.md", Path(folder))
        card = file.read_text(encoding="utf-8") if file else ""
    version = next((each for each in registry.versions().values() if each.key == model.key), None)
    if version is None:
        version = registry.add(model, card)
        logger.info("registered the model of %s: %s", model.name, registry.reference(version.number))
        if not card:
            logger.info("it has no model card: `dvc repro` before `register` writes one")
    else:
        logger.info("the model of %s is registered already: %s", model.name, registry.reference(version.number))
    _decide(registry, version, candidate, config, options)


def _evaluated(model: StoredModel, extensions: Sequence[str], folder: Path) -> Evaluated:
    """Return the heads and the test predictions of a stored model.

    Args:
        model: The model.
        extensions: Packages that a user's own heads may be imported from, whatever the model's settings say.
        folder: Folder for downloads.

    Raises:
        DataError: The model was not evaluated.
    """
    settings, predictions = model.file("params.yaml", folder), model.file("predictions.csv", folder)
    if settings is None or predictions is None:
        raise DataError(f"{model.name} was not evaluated on the test subset: {model.evaluate_it()}")
    require_plain([settings])
    values = yaml.safe_load(settings.read_text(encoding="utf-8"))
    heads = load({**values, "extensions": list(extensions)}, f"params.yaml of {model.name}").data.heads
    return Evaluated(heads, read_predictions(predictions, heads))


def _decide(registry: Registry, version: Version, candidate: Evaluated, config: Config, options: Namespace) -> None:
    """Judge a version against the champion, and give it the alias that follows.

    The project's lock keeps its other processes away, but not other machines. So the registry is read again before and
    after the alias moves, and the version is judged anew against a champion that came in between.
    """
    champion = registry.holders().get(CHAMPION, "")
    if champion == version.number:
        logger.info("%s is the champion already", registry.reference(version.number))
        return
    while True:
        seen = registry.versions()
        judgement = _judgement(registry, seen.get(champion), candidate, config.extensions, options.require)
        shown = (f"version {champion.removeprefix('v')}", f"version {version.number.removeprefix('v')}")
        promotion.show(judgement, shown, printing.console(highlight=False))
        record = _record(judgement, champion, candidate, options.force)
        holder = registry.holders().get(CHAMPION, "")
        if holder not in (champion, version.number):
            champion = holder
            continue
        if not judgement.promoted and not options.force:
            if holder == version.number:  # it had the alias before the other champion was seen
                registry.assign(CHAMPION, seen[champion], {})
            registry.assign(CHALLENGER, version, record)
            raise NotPromoted(
                f"{registry.reference(version.number)} is the challenger of {registry.reference(champion)}: "
                f"{record['gate.reason']}"
            )
        registry.assign(CHAMPION, version, record | {BEFORE: champion, SINCE: _now()})
        if (rival := _promoted_since(registry, seen, version)) is None:
            break
        champion = rival
    if registry.holders().get(CHALLENGER) == version.number:
        registry.release(CHALLENGER)
    forced = "" if judgement.promoted else "forced, "
    logger.info("%s is the champion: %s%s", registry.reference(version.number), forced, record["gate.reason"])
    logger.info("%s", registry.after(version))


def _judgement(
    registry: Registry, champion: Version | None, candidate: Evaluated, extensions: Sequence[str], required: str
) -> Judgement:
    if champion is None:
        return Judgement(True, None)
    try:
        with tempfile.TemporaryDirectory() as folder:
            holder = _evaluated(registry.model_of(champion), extensions, Path(folder))
    except (ConfigError, DataError, IntegrityError) as error:
        return Judgement(False, None, str(error))
    return judge(holder, candidate, required)


def _record(judgement: Judgement, champion: str, candidate: Evaluated, forced: bool) -> dict[str, str]:
    gate = "promoted" if judgement.promoted else "forced" if forced else REFUSED
    return {
        "gate": gate,
        "gate.against": champion or "no champion",
        "gate.reason": promotion.reason(judgement),
        "gate.required": judgement.required or "any head",
        **promotion.record(judgement, candidate.heads),
    }


def _promoted_since(registry: Registry, seen: Mapping[str, Version], version: Version) -> str | None:
    """Return the number of another version that became champion after a list of versions was read, or None."""

    def since(each: Version | None) -> str:
        return each.record.get(SINCE, "") if each else ""

    found = registry.versions()
    changed = [
        number
        for number, each in found.items()
        # A version that gave the alias back is refused.
        if number != version.number and since(each) != since(seen.get(number)) and each.record["gate"] != REFUSED
    ]
    return max(changed, key=lambda number: since(found[number]), default=None)


def _roll_back(registry: Registry) -> None:
    """Give the alias back to the version that was champion before.

    Raises:
        DataError: There is no champion, or none was before it.
    """
    versions = registry.versions()
    champion = versions.get(registry.holders().get(CHAMPION, ""))
    if champion is None:
        raise DataError(f"{registry.reference(CHAMPION)}: there is no champion to roll back")
    before = champion.record.get(BEFORE, "")
    if before not in versions:
        missing = f"version {before} is deleted" if before else "it is the first champion"
        raise DataError(f"{registry.reference(champion.number)} cannot be rolled back: {missing}")
    registry.assign(CHAMPION, versions[before], {SINCE: _now(), "rollback.from": champion.number})
    logger.info(
        "%s is the champion again, in place of %s", registry.reference(before), registry.reference(champion.number)
    )
    logger.info("%s", registry.after(versions[before]))


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
