"""Small objects that several test files build."""

from collections.abc import Collection, Mapping

from manyheads.heads import Head, LabelStatistics
from manyheads.modeling.objective import HeadObjective, Objective


def named(heads: Mapping[str, Head]) -> dict[str, Head]:
    """Give heads their keys as names, as the configuration does."""
    return {name: head.model_copy(update={"name": name}) for name, head in heads.items()}


def objective_for(
    heads: Mapping[str, Head],
    losses: Mapping[str, str],
    statistics: Mapping[str, LabelStatistics],
    weights: Mapping[str, float] | None = None,
    incomplete: Collection[str] = (),
) -> Objective:
    """Return an objective whose statistics do not come from labels."""
    return tuple(
        HeadObjective(head, losses[name], weights[name] if weights else 1.0, statistics[name], name not in incomplete)
        for name, head in heads.items()
    )
