"""Small objects that several test files build."""

from collections.abc import Collection, Mapping

from manyheads.heads import Head, LabelStatistics
from manyheads.modeling.objective import HeadObjective, Objective

SMALL_SYSTEMS = {
    "sample": ["inputs.image.image_size=16", "model.stem=[8]", "model.widths=[8,16]", "model.blocks=[1,1]"],
    "posts": ["experiment=posts", "inputs.posts.vocabulary=200", "inputs.posts.length=60", "model.embedding=8",
              "model.stacks=[[8],[8,8]]", "model.kernel=3", "model.pool=3", "model.dense=8"],
    "questions": ["experiment=questions"],
    "objects": ["experiment=objects", "inputs.image.image_size=16", "model.filters=[8]", "model.pool=2",
                "model.dense={class: 8, box: 8}"],
    "numbers": ["experiment=numbers"],
}  # fmt: skip
"""Settings of each system with a small network, for networks that are not trained."""


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
