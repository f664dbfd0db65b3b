"""The space of a search: settings and their distributions, parsed from Hydra overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from manyheads.config.composition import as_hydra_takes, compose, composition_error
from manyheads.config.loading import known_keys
from manyheads.config.schema import Config
from manyheads.errors import ConfigError, did_you_mean
from manyheads.evaluation.settings import short_names
from manyheads.tracking.dvc import require_settings_as_locked
from manyheads.tracking.runs import flattened

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    Distribution = CategoricalDistribution | FloatDistribution | IntDistribution

WEIGHTS = (0.1, 10.0)
"""Range in which every head's weight is searched if the overrides have no list and no interval."""

DIGITS = 3
"""Significant digits of a number in an override, so that the command that promotes a trial stays short."""


@dataclass(frozen=True)
class Space:
    """The search space.

    Attributes:
        fixed: Hydra overrides of all trials.
        searched: Distribution of each setting, by the text before the ``=`` of its override.
    """

    fixed: tuple[str, ...]
    searched: Mapping[str, Distribution]

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Return the Hydra overrides of a trial that has these values."""
        return [*self.fixed, *(f"{key}={written(value)}" for key, value in values.items())]

    def name(self, values: Mapping[str, Any]) -> str:
        """Return the name of a trial that has these values, such as ``age=0.3 race=1.24``."""
        short = short_names(self.searched)
        return " ".join(f"{short[key]}={written(value)}" for key, value in values.items())

    def examples(self) -> list[dict[str, Any]]:
        """Return values of a few trials that cover each choice, both ends of each interval and a value inside it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        values: dict[str, list[Any]] = {}
        for key, each in self.searched.items():
            values[key] = list(each.choices) if isinstance(each, CategoricalDistribution) else [each.low, each.high]
            if isinstance(each, FloatDistribution) and not each.step:
                # A setting that takes only whole numbers raises its error here.
                values[key].append(each.low + (each.high - each.low) / np.e)
        count = max(map(len, values.values()))
        return [{key: each[i % len(each)] for key, each in values.items()} for i in range(count)]

    def identity(self) -> list[str]:
        """Return each searched setting and its distribution as a text; together they identify the space."""
        from optuna.distributions import distribution_to_json

        return [f"{key} {distribution_to_json(each)}" for key, each in self.searched.items()]


def written(value: object) -> str:
    """Return a value as it is written in an override; a float has three significant digits.

    Example:
        >>> written(0.123456), written(16)
        ('0.123', '16')
    """
    return f"{float(f'{value:.{DIGITS}g}'):g}" if isinstance(value, float) else str(value)


def compose_as_locked(root: Path, overrides: Sequence[str]) -> Config:
    """Return the configuration of overrides, which must fit the packed samples and the split.

    Raises:
        ConfigError: The overrides do not make a valid configuration.
        IntegrityError: The packed samples or the split were made with other settings.
    """
    config = compose(root, overrides)
    require_settings_as_locked(config.model_dump(mode="json"), root)
    return config


def parse(root: Path, overrides: Sequence[str]) -> Space:
    """Return the search space of overrides. Without a list or an interval, the weights that are not given are searched.

    Args:
        root: The project's root folder.
        overrides: Hydra overrides.

    Raises:
        ConfigError: An override cannot be parsed, its setting is unknown, or no setting is left to search.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from optuna.distributions import FloatDistribution

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise composition_error(error) from error
    if hydra := next((each.input_line for each in parsed if each.is_hydra_override()), None):
        raise ConfigError(
            f"{hydra}: a search uses no Hydra launcher; in a second terminal the same command shares the work"
        )
    searched: dict[str, Distribution] = {
        str(each.input_line).partition("=")[0]: _distribution(each) for each in parsed if each.is_sweep_override()
    }
    fixed = {each.key_or_group: str(each.input_line) for each in parsed if not each.is_sweep_override()}
    base = compose_as_locked(root, list(fixed.values()))
    _require_known(list(searched), list(flattened(base.model_dump())))
    if not searched:
        free = [key for key in (f"loss.weights.{head}" for head in base.loss.weights) if key not in fixed]
        searched = {key: FloatDistribution(*WEIGHTS, log=True) for key in free}
    if not searched:
        raise ConfigError("every setting has one value: give one an interval or a list (see --help)")
    # Sorted, so that the same overrides in another order are the same search.
    space = Space(tuple(fixed.values()), dict(sorted(searched.items())))
    taken = as_hydra_takes(root, space.overrides(space.examples()[0]))
    keys = [override.partition("=")[0] for override in taken[len(fixed) :]]
    return Space(tuple(taken[: len(fixed)]), dict(zip(keys, space.searched.values(), strict=True)))


def _require_known(searched: Sequence[str], known: Sequence[str]) -> None:
    for key in searched:
        # Checked here, because Hydra's own error suggests no correction.
        if "." in key and not key.startswith("+") and not any(f"{name}.".startswith(f"{key}.") for name in known):
            raise ConfigError(f"unknown setting {key!r}{did_you_mean(key, [*known, *known_keys()])}")


def _distribution(override: Override) -> Distribution:
    from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep = override.value()
    if not isinstance(sweep, ChoiceSweep | IntervalSweep | RangeSweep):
        raise ConfigError(f"{override.input_line}: list the options, such as loss=balanced,learned")
    meaningful = set() if isinstance(sweep, ChoiceSweep) else {"log"}
    if unknown := sorted(sweep.tags - meaningful):
        raise ConfigError(f"{override.input_line}: the tag {unknown[0]!r} is not supported here")
    log = "log" in sweep.tags
    try:
        if isinstance(sweep, ChoiceSweep):
            return CategoricalDistribution(sorted(set(override.sweep_string_iterator())))
        if isinstance(sweep, IntervalSweep):
            ends: tuple[Any, Any] = (sweep.start, sweep.end)
            whole = all(isinstance(end, int) for end in ends)
            return IntDistribution(*ends, log=log) if whole else FloatDistribution(*ends, log=log)
        values: list[Any] = list(override.sweep_iterator())
        if not values:
            raise ValueError("the range is empty: check its ends and its step")
        if all(isinstance(value, int) for value in values):
            return IntDistribution(min(values), max(values), log=log, step=abs(int(sweep.step)))
        # Hydra adds in binary floating point, so that a range may end at 0.30000000000000004.
        low, high = (float(written(end)) for end in (min(values), max(values)))
        return FloatDistribution(low, high, log=log, step=abs(float(sweep.step)))
    except ValueError as error:
        raise ConfigError(f"{override.input_line}: {error}") from error
